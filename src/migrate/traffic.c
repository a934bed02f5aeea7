#include "migrate/traffic.h"

#include <errno.h>
#include <stdbool.h>

#include "base/util.h"

void mig_after_put(struct wire_out *o, const struct mig_sample *s, size_t n)
{
	put_u32(o, (uint32_t)n);
	for (size_t i = 0; i < n; i++) {
		put_u64(o, s[i].at_ns);
		put_u64(o, s[i].frames);
		put_u64(o, s[i].bytes);
	}
}

/*
 * Rates are differences divided by a time: with what is refused here none
 * is negative, infinite or of another age.
 */
static bool follows(const struct mig_sample *was, const struct mig_sample *s)
{
	return s->at_ns > was->at_ns && s->at_ns <= 2 * MIG_WATCH_MAX_NS &&
	       s->frames >= was->frames && s->bytes >= was->bytes &&
	       s->frames <= INT64_MAX && s->bytes <= INT64_MAX;
}

int mig_after_get(struct wire_in *in, struct mig_sample out[MIG_AFTER_MAX])
{
	uint32_t n = get_u32(in);

	if (n < 2 || n > MIG_AFTER_MAX)
		return -EBADMSG;
	for (uint32_t i = 0; i < n; i++) {
		out[i] = (struct mig_sample){ .at_ns = get_u64(in) };
		out[i].frames = get_u64(in);
		out[i].bytes = get_u64(in);
		if (i && !follows(&out[i - 1], &out[i]))
			return -EBADMSG;
	}
	return wire_done(in) < 0 ? -EBADMSG : (int)n;
}
