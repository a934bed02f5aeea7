#include "cli/vm.h"

#include "base/log.h"
#include "base/rights.h"
#include "cli/cmd.h"
#include "machine/move.h"
#include "machine/rebind.h"

static int drop_all_but_addresses(struct err *e)
{
	return rights_drop(RIGHTS_HOSTPF, e);
}

int cli_vm_serve(const struct cli_vm *c)
{
	struct rebind *rb = NULL;
	struct move *mv = NULL;
	struct err e = { 0 };
	struct machine *m;
	int ret;

	if (c->verbose)
		log_set_level(LOG_DEBUG);
	log_set_prefix(c->cfg->name);
	netvf_prepare(c->vf, c->nvfs, drop_all_but_addresses);
	ret = rights_drop(RIGHTS_VM, &e);
	if (ret == 0)
		ret = machine_create(&m, c->cfg, &e);
	if (ret < 0)
		return cmd_fail(c->command, &e, ret);
	ret = move_create(&mv, m, &e);
	if (ret == 0)
		ret = rebind_create(&rb, m, &e);
	if (ret == 0)
		ret = c->begin(m, c->opaque, &e);
	if (ret == 0)
		ret = machine_serve(m);
	if (c->end)
		c->end(c->opaque);
	rebind_destroy(rb);
	move_destroy(mv);
	machine_destroy(m);
	return ret < 0 ? cmd_fail(c->command, &e, ret) : ret;
}
