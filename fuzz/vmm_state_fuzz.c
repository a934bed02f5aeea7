// sources: src/vmm/state_vcpu.c src/vmm/state_machine.c src/vmm/fields.c src/vmm/cpuid.c src/vmm/serial.c src/base/err.c src/base/log.c src/base/wire.c
/*
 * A hostile machine state: all of it is read before KVM hears of any.
 */
#include <stdlib.h>

#include "vmm/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len);

/* Of irq.c, which only an apply reaches. */
void irq_line(struct vm *vm, unsigned int gsi, bool level)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t len)
{
	struct machine_state *m = malloc(sizeof(*m));
	struct vcpu_state *s = malloc(sizeof(*s));
	struct kvm_cpuid2 *t;
	struct wire_in in;

	wire_in_init(&in, p, len);
	t = cpuid_get(&in);
	machine_get(&in, m);
	vcpu_get(&in, s);
	if (s->nmsrs > STATE_MSRS || s->xsave_len > STATE_XSAVE ||
	    m->serial.count > SERIAL_INPUT)
		abort();
	free(t);
	free(m);
	free(s);
	return 0;
}
