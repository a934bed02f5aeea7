#include "migrate/manifest.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"

#define CPUS_MAX 1024
#define RAM_END	 (1ull << 46) /* no guest address lies above */

const char *mig_backing_name(enum mig_backing b)
{
	static const char *const names[] = {
		[MIG_NONE] = "none",
		[MIG_SOFTWARE] = "software",
		[MIG_HARDWARE] = "hardware",
	};

	return (unsigned int)b < ARRAY_SIZE(names) ? names[b] : "?";
}

void mig_device_put(struct wire_out *o, const struct mig_device *d)
{
	put_str(o, d->name);
	put_str(o, d->model);
	put_str(o, d->family);
	put_str(o, d->type);
	put_u32(o, d->version);
	put_u16(o, d->api);
	put_u16(o, d->queues);
	put_u64(o, d->features);
	put_u8(o, (uint8_t)d->backing);
}

void mig_device_get(struct wire_in *in, struct mig_device *d)
{
	uint8_t backing;

	memset(d, 0, sizeof(*d));
	get_text(in, d->name, sizeof(d->name));
	get_text(in, d->model, sizeof(d->model));
	get_text(in, d->family, sizeof(d->family));
	get_text(in, d->type, sizeof(d->type));
	d->version = get_u32(in);
	d->api = get_u16(in);
	d->queues = get_u16(in);
	d->features = get_u64(in);
	backing = get_u8(in);
	if (backing >= MIG_BACKINGS)
		wire_fail(in, -EBADMSG);
	else
		d->backing = (enum mig_backing)backing;
}

void mig_manifest_put(struct wire_out *o, const struct mig_manifest *m)
{
	put_str(o, m->vm);
	put_u32(o, m->cpus);
	put_u64(o, m->cpu_digest);
	put_u32(o, m->nram);
	for (uint32_t i = 0; i < m->nram; i++) {
		put_u64(o, m->ram[i].gpa);
		put_u64(o, m->ram[i].size);
		put_u64(o, m->ram[i].page);
	}
	put_u32(o, m->ndevices);
	for (uint32_t i = 0; i < m->ndevices; i++)
		mig_device_put(o, &m->device[i]);
	put_str(o, m->machine);
}

/* Ascending, page aligned, apart, inside the address space. */
static bool ram_is_sane(const struct mig_manifest *m)
{
	uint64_t end = 0;

	for (uint32_t i = 0; i < m->nram; i++) {
		const struct mig_ram *r = &m->ram[i];

		if (r->page < PAGE_SIZE || r->page & (r->page - 1) ||
		    r->page > 1ull << 30)
			return false;
		if (!r->size || r->gpa < end || r->gpa >= RAM_END ||
		    r->size > RAM_END - r->gpa)
			return false;
		if ((r->gpa | r->size) & (r->page - 1))
			return false;
		end = r->gpa + r->size;
	}
	return m->nram > 0;
}

static bool names_are_sane(const struct mig_manifest *m)
{
	for (uint32_t i = 0; i < m->ndevices; i++) {
		if (!m->device[i].name[0])
			return false;
		for (uint32_t j = 0; j < i; j++)
			if (!strcmp(m->device[i].name, m->device[j].name))
				return false;
	}
	return true;
}

int mig_manifest_get(struct wire_in *in, struct mig_manifest *out,
		     struct err *e)
{
	struct mig_manifest m = { 0 };

	get_text(in, m.vm, sizeof(m.vm));
	m.cpus = get_u32(in);
	m.cpu_digest = get_u64(in);
	m.nram = get_u32(in);
	if (m.nram > MIG_RAM_MAX)
		wire_fail(in, -EBADMSG);
	for (uint32_t i = 0; i < m.nram && !in->err; i++) {
		m.ram[i].gpa = get_u64(in);
		m.ram[i].size = get_u64(in);
		m.ram[i].page = get_u64(in);
	}
	m.ndevices = get_u32(in);
	if (m.ndevices > MIG_DEVICES_MAX)
		wire_fail(in, -EBADMSG);
	for (uint32_t i = 0; i < m.ndevices && !in->err; i++)
		mig_device_get(in, &m.device[i]);
	get_text(in, m.machine, sizeof(m.machine));

	if (wire_done(in) < 0)
		return err_set(e, -EBADMSG, "manifest: malformed");
	if (!m.cpus || m.cpus > CPUS_MAX)
		return err_set(e, -EBADMSG, "manifest: %u vCPUs", m.cpus);
	if (!ram_is_sane(&m))
		return err_set(e, -EBADMSG,
			       "manifest: RAM regions overlap, are unaligned "
			       "or lie outside the address space");
	if (!names_are_sane(&m))
		return err_set(e, -EBADMSG,
			       "manifest: a device name is empty or twice "
			       "there");
	*out = m;
	return 0;
}

uint64_t mig_manifest_ram(const struct mig_manifest *m)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < m->nram; i++)
		if (__builtin_add_overflow(sum, m->ram[i].size, &sum))
			return 0;
	return sum;
}
