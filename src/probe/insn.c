#include "probe/insn.h"

#include <errno.h>
#include <Zydis/Zydis.h>

static uint8_t gpr(ZydisRegister r)
{
	ZydisRegister wide;

	if (r == ZYDIS_REGISTER_RIP)
		return X86_RIP_BASE;
	if (r == ZYDIS_REGISTER_NONE)
		return X86_NONE;
	wide = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r);
	if (wide < ZYDIS_REGISTER_RAX || wide > ZYDIS_REGISTER_R15)
		return X86_NONE;
	return (uint8_t)(wide - ZYDIS_REGISTER_RAX);
}

static uint8_t condition(const ZydisDecodedInstruction *z)
{
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_JRCXZ: return SITE_COND_RCXZ;
	case ZYDIS_MNEMONIC_JECXZ: return SITE_COND_ECXZ;
	case ZYDIS_MNEMONIC_LOOP: return SITE_COND_LOOP;
	case ZYDIS_MNEMONIC_LOOPE: return SITE_COND_LOOPE;
	case ZYDIS_MNEMONIC_LOOPNE: return SITE_COND_LOOPNE;
	default: return z->opcode & 15; /* 7x and 0f 8x */
	}
}

static void take_ref(struct insn *in, const ZydisDecodedOperand *op)
{
	in->ref = (struct site_ref){ .base = X86_NONE, .index = X86_NONE };
	if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
		in->ref.base = gpr(op->reg.value);
		return;
	}
	in->ref.mem = 1;
	in->ref.base = gpr(op->mem.base);
	in->ref.index = gpr(op->mem.index);
	in->ref.scale = op->mem.scale;
	in->ref.disp = (int32_t)op->mem.disp.value;
	in->ref.seg = op->mem.segment == ZYDIS_REGISTER_FS   ? 'f'
		      : op->mem.segment == ZYDIS_REGISTER_GS ? 'g'
							     : 0;
}

static void branch(struct insn *in, const ZydisDecodedInstruction *z,
		   const ZydisDecodedOperand *op, uint64_t addr)
{
	bool call = z->mnemonic == ZYDIS_MNEMONIC_CALL;
	bool jmp = z->mnemonic == ZYDIS_MNEMONIC_JMP;

	if (z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
		in->kind = INSN_FAR;
		return;
	}
	in->notrack = z->attributes & ZYDIS_ATTRIB_HAS_NOTRACK;
	if (op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		ZyanU64 to;

		if (!ZYAN_SUCCESS(
			    ZydisCalcAbsoluteAddress(z, &op[0], addr, &to))) {
			in->kind = INSN_FAR;
			return;
		}
		in->target = to;
		in->kind = call ? INSN_CALL : jmp ? INSN_JMP : INSN_JCC;
		in->cond = in->kind == INSN_JCC ? condition(z) : SITE_COND_NONE;
		return;
	}
	take_ref(in, &op[0]);
	in->kind = call ? INSN_CALL_IND : INSN_JMP_IND;
}

/* Effects on the stack pointer and on rbp as a frame pointer. */
static void stack_effect(struct insn *in, const ZydisDecodedInstruction *z,
			 const ZydisDecodedOperand *op)
{
	bool to_sp = op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		     op[0].reg.value == ZYDIS_REGISTER_RSP;
	bool to_fp = op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		     op[0].reg.value == ZYDIS_REGISTER_RBP;
	bool imm = z->operand_count > 1 &&
		   op[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
	ZydisRegister from =
		z->operand_count > 1 &&
				op[1].type == ZYDIS_OPERAND_TYPE_REGISTER
			? op[1].reg.value
			: ZYDIS_REGISTER_NONE;

	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_PUSH:
	case ZYDIS_MNEMONIC_PUSHFQ:
		in->stack = STACK_MOVED;
		in->delta = z->operand_width == 16 ? 2 : 8;
		return;
	case ZYDIS_MNEMONIC_POP:
		in->loads_fp = to_fp;
		in->stack = to_sp ? STACK_LOST : STACK_MOVED;
		in->delta = z->operand_width == 16 ? -2 : -8;
		return;
	case ZYDIS_MNEMONIC_POPFQ:
		in->stack = STACK_MOVED;
		in->delta = -8;
		return;
	case ZYDIS_MNEMONIC_LEAVE: in->stack = STACK_LEAVE; return;
	case ZYDIS_MNEMONIC_ENTER: in->stack = STACK_LOST; return;
	case ZYDIS_MNEMONIC_SUB:
	case ZYDIS_MNEMONIC_ADD:
		if (to_sp && imm) {
			in->stack = STACK_MOVED;
			in->delta = (int32_t)op[1].imm.value.s;
			if (z->mnemonic == ZYDIS_MNEMONIC_ADD)
				in->delta = -in->delta;
			return;
		}
		break;
	case ZYDIS_MNEMONIC_LEA:
		if (op[1].mem.index != ZYDIS_REGISTER_NONE)
			break;
		if (to_sp && op[1].mem.base == ZYDIS_REGISTER_RSP) {
			in->stack = STACK_MOVED;
			in->delta = -(int32_t)op[1].mem.disp.value;
			return;
		}
		if (to_sp && op[1].mem.base == ZYDIS_REGISTER_RBP) {
			in->stack = STACK_FROM_FP;
			in->delta = -(int32_t)op[1].mem.disp.value;
			return;
		}
		if (to_fp && op[1].mem.base == ZYDIS_REGISTER_RSP) {
			in->sets_fp = true;
			in->delta = -(int32_t)op[1].mem.disp.value;
			return;
		}
		break;
	case ZYDIS_MNEMONIC_MOV:
		if (to_sp && from == ZYDIS_REGISTER_RBP) {
			in->stack = STACK_FROM_FP;
			return;
		}
		if (to_fp && from == ZYDIS_REGISTER_RSP) {
			in->sets_fp = true;
			return;
		}
		break;
	default: break;
	}
	for (unsigned int i = 0; i < z->operand_count; i++) {
		if (op[i].type != ZYDIS_OPERAND_TYPE_REGISTER ||
		    !(op[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		if (gpr(op[i].reg.value) == X86_RSP)
			in->stack = STACK_LOST;
		if (gpr(op[i].reg.value) == X86_RBP)
			in->loads_fp = true;
	}
}

static bool is_nop(const ZydisDecodedInstruction *z)
{
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_NOP:
	case ZYDIS_MNEMONIC_ENDBR64:
	case ZYDIS_MNEMONIC_ENDBR32: return true;
	default: return false;
	}
}

int insn_decode(struct insn *in, const uint8_t *p, size_t avail, uint64_t addr)
{
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction z;
	ZydisDecoder d;

	*in = (struct insn){ .cond = SITE_COND_NONE,
			     .pushed = X86_NONE,
			     .reg0 = X86_NONE,
			     .reg1 = X86_NONE };
	ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, p, avail, &z, op)))
		return -EILSEQ;
	in->len = z.length;
	in->mnemonic = (uint16_t)z.mnemonic;
	in->movable = true;
	if (z.operand_count > 0 && op[0].type == ZYDIS_OPERAND_TYPE_REGISTER)
		in->reg0 = gpr(op[0].reg.value);
	if (z.operand_count > 1 && op[1].type == ZYDIS_OPERAND_TYPE_REGISTER)
		in->reg1 = gpr(op[1].reg.value);
	for (unsigned int i = 0; i < z.operand_count; i++)
		if (op[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    op[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE &&
		    gpr(op[i].reg.value) == X86_R11)
			in->writes_r11 = true;
	for (unsigned int i = 0; i < z.operand_count_visible; i++) {
		if (op[i].type != ZYDIS_OPERAND_TYPE_MEMORY)
			continue;
		take_ref(in, &op[i]);
		if (op[i].mem.base == ZYDIS_REGISTER_RIP)
			in->rip_disp = z.raw.disp.offset;
		/* eip-relative: nobody writes it, so nobody moves it. */
		if (op[i].mem.base == ZYDIS_REGISTER_EIP)
			in->movable = false;
	}

	switch (z.meta.category) {
	case ZYDIS_CATEGORY_COND_BR:
	case ZYDIS_CATEGORY_UNCOND_BR:
	case ZYDIS_CATEGORY_CALL:
		in->movable = false;
		if (z.mnemonic == ZYDIS_MNEMONIC_XBEGIN)
			return 0;
		branch(in, &z, op, addr);
		return 0;
	case ZYDIS_CATEGORY_RET:
		in->movable = false;
		if (z.mnemonic != ZYDIS_MNEMONIC_RET ||
		    z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
			in->kind = INSN_FAR;
			return 0;
		}
		in->kind = INSN_RET;
		if (z.operand_count_visible)
			in->pop = (uint16_t)op[0].imm.value.u;
		return 0;
	case ZYDIS_CATEGORY_SYSRET:
		in->movable = false;
		in->kind = INSN_FAR;
		return 0;
	default: break;
	}
	switch (z.mnemonic) {
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
	case ZYDIS_MNEMONIC_INT3:
	case ZYDIS_MNEMONIC_HLT:
		in->kind = INSN_STOP;
		in->movable = false;
		return 0;
	case ZYDIS_MNEMONIC_INT:
	case ZYDIS_MNEMONIC_INT1:
	case ZYDIS_MNEMONIC_INTO: in->movable = false; break;
	case ZYDIS_MNEMONIC_PUSH:
		if (op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    z.operand_width == 64 && in->reg0 != X86_NONE) {
			in->kind = INSN_PUSH;
			in->pushed = in->reg0;
		}
		break;
	default: break;
	}
	if (is_nop(&z)) {
		in->kind = INSN_NOP;
		return 0;
	}
	stack_effect(in, &z, op);
	return 0;
}

bool insn_is_table_load(const struct insn *in)
{
	return in->mnemonic == ZYDIS_MNEMONIC_MOVSXD && in->ref.mem &&
	       in->ref.scale == 4 && in->ref.index != X86_NONE;
}

bool insn_is_add_to(const struct insn *in, uint8_t reg)
{
	return in->mnemonic == ZYDIS_MNEMONIC_ADD && in->reg0 == reg &&
	       in->reg1 != X86_NONE;
}

bool insn_cond_holds(uint8_t cond, const struct probe_regs *r)
{
	uint64_t f = r->rflags, cx = r->gpr[X86_RCX];
	bool sf = f & RFLAGS_SF, of = f & RFLAGS_OF, zf = f & RFLAGS_ZF, yes;

	switch (cond) {
	case SITE_COND_NONE: return true;
	case SITE_COND_RCXZ: return cx == 0;
	case SITE_COND_ECXZ: return (uint32_t)cx == 0;
	case SITE_COND_LOOP: return cx != 0;
	case SITE_COND_LOOPE: return cx != 0 && zf;
	case SITE_COND_LOOPNE: return cx != 0 && !zf;
	}
	switch (cond >> 1) {
	case 0: yes = of; break;
	case 1: yes = f & RFLAGS_CF; break;
	case 2: yes = zf; break;
	case 3: yes = f & RFLAGS_CF || zf; break;
	case 4: yes = sf; break;
	case 5: yes = f & RFLAGS_PF; break;
	case 6: yes = sf != of; break;
	default: yes = zf || sf != of; break;
	}
	return yes != (cond & 1);
}
