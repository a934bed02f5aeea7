#include "migrate/plan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"

/* How an offer compares with the device; the order is from worst to best. */
enum match { NOTHING, SOFTWARE_OTHER, SOFTWARE_SAME, OTHER, SAME, MATCHES };

/*
 * The table of the design: row = what the destination can put behind the
 * device, column = whether the policy allows software to stand in for
 * hardware.  Zero is a refusal, so a case left out closes the door.
 *
 * A device already backed by software is not *falling back* when software
 * backs it again: compare() gives such a pair OTHER or SAME.
 */
static const enum mig_action table[MATCHES][2] = {
	/*		    no fallback	 --fallback software */
	[NOTHING] = { MIG_REFUSE, MIG_REFUSE },
	[SOFTWARE_OTHER] = { MIG_REFUSE, MIG_REBUILD },
	[SOFTWARE_SAME] = { MIG_REFUSE, MIG_REBUILD },
	[OTHER] = { MIG_REBUILD, MIG_REBUILD },
	[SAME] = { MIG_KEEP, MIG_KEEP },
};

const char *mig_action_name(enum mig_action a)
{
	static const char *const names[] = {
		[MIG_REFUSE] = "refuse",
		[MIG_KEEP] = "keep",
		[MIG_REBUILD] = "rebuild",
	};

	return (unsigned int)a < ARRAY_SIZE(names) ? names[a] : "?";
}

static bool same_generation(const struct mig_device *a,
			    const struct mig_device *b)
{
	return !strcmp(a->family, b->family) && !strcmp(a->type, b->type) &&
	       a->version == b->version;
}

/* Why an offer cannot serve the device at all, or NULL. */
static const char *lacking(const struct mig_device *dev,
			   const struct mig_device *offer, char *buf,
			   size_t size)
{
	static const char *const names[] = MIG_FEAT_NAMES;
	uint64_t missing = dev->features & ~offer->features;

	if (offer->backing == MIG_NONE)
		return "the destination has no VF for it; give its 'pagurus "
		       "receive' one with --vf";
	if (strcmp(dev->family, offer->family)) {
		snprintf(buf, size, "'%s' is of family %s, not %s", offer->name,
			 offer->family, dev->family);
		return buf;
	}
	if (dev->features & ~MIG_FEAT_KNOWN) {
		snprintf(buf, size,
			 "it uses features 0x%" PRIx64
			 " that migration does not know",
			 (uint64_t)(dev->features & ~MIG_FEAT_KNOWN));
		return buf;
	}
	if (missing) {
		snprintf(buf, size, "'%s' lacks %s, which the guest uses",
			 offer->name, names[__builtin_ctzll(missing)]);
		return buf;
	}
	if (offer->queues < dev->queues) {
		snprintf(buf, size, "'%s' has %u queues, the guest uses %u",
			 offer->name, offer->queues, dev->queues);
		return buf;
	}
	return NULL;
}

static enum match compare(const struct mig_device *dev,
			  const struct mig_device *offer)
{
	bool same = same_generation(dev, offer);
	char buf[8];

	if (lacking(dev, offer, buf, sizeof(buf)))
		return NOTHING;
	if (offer->backing == MIG_SOFTWARE && dev->backing == MIG_HARDWARE)
		return same ? SOFTWARE_SAME : SOFTWARE_OTHER;
	/* An older mailbox API is only absorbed by a re-initialisation. */
	return same && offer->api >= dev->api ? SAME : OTHER;
}

void mig_decide(struct mig_decision *out, const struct mig_device *dev,
		const struct mig_device *offer, const struct mig_policy *policy)
{
	char buf[120];
	const char *why = lacking(dev, offer, buf, sizeof(buf));
	enum match match = compare(dev, offer);

	*out = (struct mig_decision){
		.device = *dev,
		.offer = *offer,
		.action = table[match][policy->fallback_software],
	};
	switch (match) {
	case NOTHING:
		snprintf(out->reason, sizeof(out->reason), "%s", why);
		break;
	case SOFTWARE_OTHER:
	case SOFTWARE_SAME:
		snprintf(out->reason, sizeof(out->reason),
			 policy->fallback_software
				 ? "no hardware of family %s: the software NIC "
				   "stands in"
				 : "no hardware of family %s; --fallback "
				   "software "
				   "would let the software NIC stand in",
			 dev->family);
		break;
	case OTHER:
		snprintf(out->reason, sizeof(out->reason),
			 "%s/%s version %u api %u becomes %s/%s version %u "
			 "api %u",
			 dev->family, dev->type, dev->version, dev->api,
			 offer->family, offer->type, offer->version,
			 offer->api);
		break;
	default:
		snprintf(out->reason, sizeof(out->reason),
			 "%s/%s version %u on both sides", dev->family,
			 dev->type, dev->version);
		break;
	}
}

void mig_plan_make(struct mig_plan *plan, const struct mig_manifest *m,
		   const struct mig_device *offers, unsigned int noffers,
		   const struct mig_policy *policy)
{
	static const struct mig_device none;
	uint64_t used = 0;

	memset(plan, 0, sizeof(*plan));
	for (uint32_t i = 0; i < m->ndevices; i++) {
		enum match best = NOTHING;
		unsigned int pick = noffers;

		for (unsigned int k = 0; k < noffers && k < 64; k++) {
			enum match c = compare(&m->device[i], &offers[k]);

			if (!(used >> k & 1) && c > best) {
				best = c;
				pick = k;
			}
		}
		/* Name the offer that failed, if there is one left. */
		for (unsigned int k = 0; pick == noffers && k < noffers; k++)
			if (!(used >> k & 1))
				pick = k;
		mig_decide(&plan->d[plan->n++], &m->device[i],
			   pick < noffers ? &offers[pick] : &none, policy);
		if (best != NOTHING)
			used |= 1ull << pick;
	}
}

int mig_plan_verdict(const struct mig_plan *plan, struct err *e)
{
	for (uint32_t i = 0; i < plan->n; i++)
		if (plan->d[i].action == MIG_REFUSE)
			return err_set(e, -EOPNOTSUPP,
				       "device %s cannot move: %s",
				       plan->d[i].device.name,
				       plan->d[i].reason);
	return 0;
}

void mig_plan_put(struct wire_out *o, const struct mig_plan *plan)
{
	put_u32(o, plan->n);
	for (uint32_t i = 0; i < plan->n; i++) {
		mig_device_put(o, &plan->d[i].device);
		mig_device_put(o, &plan->d[i].offer);
		put_u8(o, (uint8_t)plan->d[i].action);
		put_str(o, plan->d[i].reason);
	}
}

int mig_plan_get(struct wire_in *in, struct mig_plan *out, struct err *e)
{
	struct mig_plan p = { .n = get_u32(in) };

	if (p.n > MIG_DEVICES_MAX)
		wire_fail(in, -EBADMSG);
	for (uint32_t i = 0; i < p.n && !in->err; i++) {
		uint8_t action;

		mig_device_get(in, &p.d[i].device);
		mig_device_get(in, &p.d[i].offer);
		action = get_u8(in);
		if (action >= MIG_ACTIONS)
			wire_fail(in, -EBADMSG);
		p.d[i].action = (enum mig_action)action;
		get_text(in, p.d[i].reason, sizeof(p.d[i].reason));
	}
	if (in->err)
		return err_set(e, -EBADMSG, "plan: malformed");
	*out = p;
	return 0;
}

static json_t *device_json(const struct mig_device *d)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:I}", "name",
			 d->name, "backing", mig_backing_name(d->backing),
			 "family", d->family, "type", d->type, "version",
			 (int)d->version, "api", (int)d->api, "queues",
			 (int)d->queues, "features", (json_int_t)d->features);
}

json_t *mig_plan_json(const struct mig_plan *plan)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < plan->n; i++) {
		const struct mig_decision *d = &plan->d[i];

		json_array_append_new(
			list, json_pack("{s:o, s:o, s:s, s:s}", "device",
					device_json(&d->device), "offer",
					device_json(&d->offer), "action",
					mig_action_name(d->action), "reason",
					d->reason));
	}
	return list;
}
