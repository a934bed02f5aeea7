#include "igb/gen.h"

#include <string.h>

#include "base/util.h"
#include "igb/regs.h"

const struct gen gen_table[] = {
	{
		.name = "igb/82576",
		.type = "igb",
		.version = "82576",
		.vendor = IGB_VENDOR_INTEL,
		.pf_device = IGB_DEV_82576,
		.vf_device = IGB_DEV_82576_VF,
		.vf_queues = 2,
		.pf_queues = IGB_QUEUES_82576,
		.vf_vectors = IGB_VECTORS_VF,
		.vfs_max = IGB_POOLS - 1,
		.rar = IGB_RAR_82576,
		.txswc = IGB_DTXSWC,
		.vfta_writes = 1,
		.wthresh_one = true,
	},
	{
		.name = "igb/i350",
		.type = "igb",
		.version = "i350",
		.vendor = IGB_VENDOR_INTEL,
		.pf_device = IGB_DEV_I350,
		.vf_device = IGB_DEV_I350_VF,
		.vf_queues = 1,
		.pf_queues = IGB_QUEUES_I350,
		.vf_vectors = IGB_VECTORS_VF,
		.vfs_max = IGB_POOLS - 1,
		.rar = IGB_RAR_I350,
		.txswc = IGB_TXSWC,
		.dvmolr = true,
		.vfta_writes = 10,
		.lb_vlan_be = true,
	},
};

const unsigned int gen_count = ARRAY_SIZE(gen_table);

const struct gen *gen_by_name(const char *name)
{
	for (unsigned int i = 0; i < gen_count; i++)
		if (!strcmp(gen_table[i].name, name))
			return &gen_table[i];
	return NULL;
}

const struct gen *gen_by_pf(uint16_t vendor, uint16_t device)
{
	for (unsigned int i = 0; i < gen_count; i++)
		if (gen_table[i].vendor == vendor &&
		    gen_table[i].pf_device == device)
			return &gen_table[i];
	return NULL;
}

const struct gen *gen_by_vf(uint16_t vendor, uint16_t device)
{
	for (unsigned int i = 0; i < gen_count; i++)
		if (gen_table[i].vendor == vendor &&
		    gen_table[i].vf_device == device)
			return &gen_table[i];
	return NULL;
}

bool gen_equal(const struct gen *a, const struct gen *b)
{
	return !strcmp(a->type, b->type) && !strcmp(a->version, b->version);
}

unsigned int gen_vf_queue(const struct gen *g, unsigned int vf, unsigned int q)
{
	/* VF n owns queues n and n + 8 (igb_cache_ring_register). */
	return vf + IGB_POOLS * (q % g->vf_queues);
}
