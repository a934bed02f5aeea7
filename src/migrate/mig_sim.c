#include "migrate/mig_sim.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/util.h"

#define M(vm_) container_of(vm_, struct machine, vm)

static void *guest(void *opaque)
{
	struct machine *m = opaque;
	unsigned int seed = 7;

	for (;;) {
		size_t page = (size_t)rand_r(&seed) % 64;

		pthread_mutex_lock(&m->lock);
		if (m->quit) {
			pthread_mutex_unlock(&m->lock);
			return NULL;
		}
		if (!m->held && m->runnable) {
			uint64_t *p = (uint64_t *)((char *)m->ram.guest +
						   page * PAGE_SIZE);

			m->dirtied++;
			p[m->dirtied % 512] = m->dirtied;
			bitmap_set_atomic(m->dirty, page);
			m->counter = m->dirtied;
		}
		pthread_mutex_unlock(&m->lock);
		if (m->dirtied % 64 == 0)
			usleep(100);
	}
}

void machine_init(struct machine *m, const struct mig_vm_ops *ops, bool runs)
{
	memset(m, 0, sizeof(*m));
	m->vm.ops = ops;
	pthread_mutex_init(&m->lock, NULL);
	m->ram.fd = -1;
	m->ram.size = RAM_BYTES;
	m->ram.page = PAGE_SIZE;
	m->ram.guest = m->ram.backing = aligned_alloc(PAGE_SIZE, RAM_BYTES);
	memset(m->ram.guest, 0, RAM_BYTES);
	m->dirty = bitmap_alloc(PAGES);
	m->runnable = runs;
	m->action = MIG_KEEP;
	if (runs) {
		/* A third of it is not zero. */
		for (size_t i = 0; i < PAGES; i += 3)
			memset((char *)m->ram.guest + i * PAGE_SIZE,
			       (int)(i & 0x7f) + 1, PAGE_SIZE);
		m->guest_there = !pthread_create(&m->guest, NULL, guest, m);
	}
}

void machine_fini(struct machine *m)
{
	pthread_mutex_lock(&m->lock);
	m->quit = true;
	pthread_mutex_unlock(&m->lock);
	if (m->guest_there)
		pthread_join(m->guest, NULL);
	free(m->ram.guest);
	free(m->dirty);
	pthread_mutex_destroy(&m->lock);
}

static size_t m_ram(struct mig_vm *vm, const struct host_ram **out)
{
	*out = &M(vm)->ram;
	return 1;
}

static void m_describe(struct mig_vm *vm, struct mig_manifest *out)
{
	*out = (struct mig_manifest){
		.vm = "test",
		.cpus = 1,
		.nram = 1,
		.ram = { { 0, RAM_BYTES, PAGE_SIZE } },
		.ndevices = 1,
		.device = { { .name = "net0",
			      .family = "igb",
			      .type = "82576",
			      .queues = 1,
			      .backing = MIG_HARDWARE } },
	};
}

static void m_cpu(struct mig_vm *vm, struct wire_out *o)
{
	put_u64(o, 0xc0ffee);
}

static int m_cpu_check(struct mig_vm *vm, struct wire_in *in, struct err *e)
{
	if (get_u64(in) != 0xc0ffee || wire_done(in) < 0)
		return err_set(e, -EBADMSG, "not the CPU that was sent");
	return M(vm)->fail_cpu ? err_set(e, -ENOTSUP, "no avx512 here") : 0;
}

static int m_dirty_start(struct mig_vm *vm)
{
	return 0;
}

static int m_dirty_fetch(struct mig_vm *vm, uint64_t *map)
{
	bitmap_harvest(map, M(vm)->dirty, PAGES);
	if (M(vm)->miss) {
		pthread_mutex_lock(&M(vm)->lock);
		((uint8_t *)M(vm)->ram.guest)[5 * PAGE_SIZE + 4000]++;
		pthread_mutex_unlock(&M(vm)->lock);
		bitmap_clear_range(map, 5, 1);
	}
	return 0;
}

static void m_dirty_stop(struct mig_vm *vm)
{
}

static int m_engage(struct mig_vm *vm, const struct mig_plan *plan,
		    struct err *e)
{
	M(vm)->engaged++;
	return 0;
}

static int m_quiesce(struct mig_vm *vm, struct err *e)
{
	return M(vm)->action == MIG_REBUILD;
}

/* The driver needs three looks to give up its rings. */
static int m_quiesced(struct mig_vm *vm, struct err *e)
{
	return ++M(vm)->looks == 3;
}

static int m_drain(struct mig_vm *vm, struct err *e)
{
	M(vm)->drained++;
	return M(vm)->fail_drain
		       ? err_set(e, -EIO, "net0: the device does not stop")
		       : 0;
}

static void m_release(struct mig_vm *vm)
{
	M(vm)->released++;
}

static int m_pause(struct mig_vm *vm)
{
	pthread_mutex_lock(&M(vm)->lock);
	M(vm)->held++;
	pthread_mutex_unlock(&M(vm)->lock);
	return 0;
}

static void m_resume(struct mig_vm *vm)
{
	pthread_mutex_lock(&M(vm)->lock);
	M(vm)->held--;
	pthread_mutex_unlock(&M(vm)->lock);
}

static const char *m_part(struct mig_vm *vm, unsigned int n)
{
	static const char *const names[] = { "machine", "net0" };

	return n < 2 ? names[n] : NULL;
}

static int m_save(struct mig_vm *vm, unsigned int n, struct wire_out *o)
{
	put_u64(o, M(vm)->counter);
	/* One part is larger than a section may be. */
	if (n == 1)
		for (int i = 0; i < 300000; i++)
			put_u64(o, (uint64_t)i);
	return 0;
}

static int m_offer(struct mig_vm *vm, const struct mig_manifest *m,
		   const struct mig_policy *policy, struct mig_plan *out,
		   struct err *e)
{
	struct mig_device offer = m->device[0];

	if (M(vm)->action == MIG_REFUSE)
		offer.backing = MIG_NONE;
	if (M(vm)->action == MIG_REBUILD)
		offer.version++;
	mig_plan_make(out, m, &offer, 1, policy);
	return 0;
}

static int m_prepare(struct mig_vm *vm, const struct mig_manifest *m,
		     const struct mig_plan *plan, struct err *e)
{
	return M(vm)->fail_prepare ? err_set(e, -ENOMEM, "no memory for 4 MiB")
				   : 0;
}

static int m_load(struct mig_vm *vm, const char *part, struct wire_in *in,
		  struct err *e)
{
	M(vm)->counter = get_u64(in);
	if (!strcmp(part, "net0"))
		for (int i = 0; i < 300000; i++)
			if (get_u64(in) != (uint64_t)i)
				wire_fail(in, -EBADMSG);
	return in->err;
}

static int m_ready(struct mig_vm *vm, struct err *e)
{
	return M(vm)->fail_ready
		       ? err_set(e, -EIO, "net0: head register refused")
		       : 0;
}

static void m_run(struct mig_vm *vm)
{
	M(vm)->runs++;
	M(vm)->runnable = true;
}

static void m_drop(struct mig_vm *vm)
{
	M(vm)->dropped++;
}

static void m_watch(struct mig_vm *vm, uint64_t ns)
{
	assert(!M(vm)->runnable);
	M(vm)->watch_ns = ns;
}

static size_t m_watched(struct mig_vm *vm, struct mig_sample *out)
{
	assert(M(vm)->runnable);
	for (uint64_t i = 0; i < 3; i++)
		out[i] = (struct mig_sample){ i * 500000000, i * 10, i * 1000 };
	if (M(vm)->nonsense)
		out[2].at_ns = 1;
	return 3;
}

const struct mig_vm_ops machine_ops = {
	.ram = m_ram,
	.describe = m_describe,
	.cpu = m_cpu,
	.cpu_check = m_cpu_check,
	.dirty_start = m_dirty_start,
	.dirty_fetch = m_dirty_fetch,
	.dirty_stop = m_dirty_stop,
	.engage = m_engage,
	.quiesce = m_quiesce,
	.quiesced = m_quiesced,
	.drain = m_drain,
	.release = m_release,
	.pause = m_pause,
	.resume = m_resume,
	.part = m_part,
	.save = m_save,
	.offer = m_offer,
	.prepare = m_prepare,
	.load = m_load,
	.ready = m_ready,
	.run = m_run,
	.drop = m_drop,
	.watch = m_watch,
	.watched = m_watched,
};

bool runs(struct machine *m)
{
	return m->runnable && !m->held;
}
