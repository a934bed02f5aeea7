#include "steps.h"

#include "igbvf_int.h"

bool steps_frozen;

static void do_freeze(struct igbvf *v, uint64_t n)
{
	steps_frozen = n;
	printf("O freeze %lu\n", n);
}

/* Take the lock and keep it. */
static void do_lock(struct igbvf *v, uint64_t n)
{
	vf_write(v, IGBVF_V2PMAILBOX, IGB_V2P_VFU);
	printf("O lock %u\n",
	       (vf_read(v, IGBVF_V2PMAILBOX) & IGB_V2P_VFU) != 0);
}

/* Ask for VLAN n and do not look for an answer. */
static void do_ring(struct igbvf *v, uint64_t n)
{
	vf_write(v, IGBVF_V2PMAILBOX, IGB_V2P_VFU);
	vf_read(v, IGBVF_V2PMAILBOX);
	vf_write(v, IGBVF_VMBMEM, MBX_SET_VLAN | 1u << MBX_INFO_SHIFT);
	vf_write(v, IGBVF_VMBMEM + 4, (uint32_t)n);
	vf_write(v, IGBVF_V2PMAILBOX, IGB_V2P_REQ);
	printf("O ring %lu\n", n);
}

/* Ask for VLAN n as the driver does, wait for wait. */
static void do_vlan(struct igbvf *v, uint64_t n)
{
	uint64_t was = v->mbx_timeouts;
	uint32_t w = igbvf_vlan(v, (uint16_t)n, true);

	printf("O vlan %lu %s timeouts=%lu\n", n,
	       !w	      ? "unanswered"
	       : w & MBX_NACK ? "refused"
			      : "granted",
	       v->mbx_timeouts - was);
}

/* The reset alone, without the driver's part. */
static void do_rst(struct igbvf *v, uint64_t n)
{
	vf_write(v, IGBVF_CTRL, vf_read(v, IGBVF_CTRL) | IGB_CTRL_RST);
	printf("O rst\n");
}

/* n reads of what the page holds: status word, buffer, link, a counter. */
static void do_hammer(struct igbvf *v, uint64_t n)
{
	static const uint32_t reg[] = { IGBVF_V2PMAILBOX, IGBVF_VMBMEM,
					IGBVF_STATUS, IGBVF_VFGPRC };
	uint64_t t = now_ns();

	for (uint64_t i = 0; i < n; i++)
		vf_read(v, reg[i % ARRAY_SIZE(reg)]);
	printf("O hammer %lu us=%lu\n", n, (now_ns() - t) / 1000);
}

/* n messages, every one answered: VLANs come and go. */
static void do_messages(struct igbvf *v, uint64_t n)
{
	uint64_t granted = 0, t = now_ns();

	for (uint64_t i = 0; i < n; i++) {
		uint16_t vid = (uint16_t)(200 + i / 2 % 3000);
		uint32_t w = igbvf_vlan(v, vid, i % 2 == 0);

		granted += w && !(w & MBX_NACK);
	}
	printf("O messages %lu granted=%lu us=%lu\n", n, granted,
	       (now_ns() - t) / 1000);
}

static const struct {
	const char *name;
	void (*run)(struct igbvf *v, uint64_t n);
} steps[] = {
	{ "freeze", do_freeze },     { "lock", do_lock },
	{ "ring", do_ring },	     { "vlan", do_vlan },
	{ "rst", do_rst },	     { "hammer", do_hammer },
	{ "messages", do_messages },
};

bool steps_command(struct igbvf *v, const char *name, uint64_t n)
{
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++)
		if (!strcmp(name, steps[i].name)) {
			steps[i].run(v, n);
			return true;
		}
	return false;
}
