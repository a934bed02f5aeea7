/*
 * Our VMM as the core's host: struct host_ops over the parts of a VM.
 */
#include "vmm/priv.h"

static struct vm *of(struct host *h)
{
	return container_of(h, struct vm, host);
}

static size_t ram(struct host *h, const struct host_ram **out)
{
	*out = of(h)->mem.ram;
	return of(h)->mem.nram;
}

static int split(struct host *h, gpa_t gpa, uint64_t len)
{
	return mem_split(of(h), gpa.v, len);
}

static int merge(struct host *h, gpa_t gpa, uint64_t len)
{
	return mem_merge(of(h), gpa.v, len);
}

static int slot_add(struct host *h, gpa_t gpa, uint64_t len, void *va,
		    struct host_slot **out)
{
	return mem_slot_add(of(h), gpa.v, len, va, out);
}

static int slot_del(struct host *h, struct host_slot *s)
{
	return mem_slot_del(of(h), s);
}

static int create(struct host *h, unsigned int *irq)
{
	return irq_alloc(of(h), irq);
}

static void destroy(struct host *h, unsigned int irq)
{
	irq_free(of(h), irq);
}

static int route(struct host *h, unsigned int irq, struct host_msi m)
{
	return irq_set_route(of(h), irq, m);
}

static int bind_fd(struct host *h, unsigned int irq, int eventfd)
{
	return irq_fd(of(h), irq, eventfd, true);
}

static int unbind_fd(struct host *h, unsigned int irq, int eventfd)
{
	return irq_fd(of(h), irq, eventfd, false);
}

static int pause_all(struct host *h)
{
	return vm_pause(of(h));
}

static void resume_all(struct host *h)
{
	vm_resume(of(h));
}

static void mark_dirty(struct host *h, gpa_t gpa, uint64_t len)
{
	mem_mark(of(h), gpa.v, len);
}

const struct host_ops vm_host_ops = {
	.ram = ram,
	.split = split,
	.merge = merge,
	.slot_add = slot_add,
	.slot_del = slot_del,
	.irq_create = create,
	.irq_destroy = destroy,
	.irq_route = route,
	.irq_bind = bind_fd,
	.irq_unbind = unbind_fd,
	.pause = pause_all,
	.resume = resume_all,
	.mark_dirty = mark_dirty,
};
