// sources: src/base/err.c src/base/wire.c src/igb/vfstate.c src/pdev/pdev.c fuzz/vdev_pdev.c
/*
 * The registers of a VF as a hostile peer may send them.  What is accepted
 * must be saved again as the same bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "igb/vfstate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t buf[IGB_VFSTATE_MAX];
	struct igb_vf_state st;
	struct wire_in in;
	struct wire_out o;

	wire_in_init(&in, data, size);
	if (igb_vf_load(&st, &in, NULL) < 0)
		return 0;
	wire_out_init(&o, buf, sizeof(buf));
	igb_vf_save(&st, &o);
	if (o.err || wire_used(&o) > size || memcmp(buf, data, wire_used(&o)))
		abort();
	igb_vf_enabled(&st);
	igb_vf_vectors(&st);
	return 0;
}
