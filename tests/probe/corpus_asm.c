#include "corpus.h"

#include <stdio.h>

long a_one(long), a_two(long), a_leaf(long), a_jcc(long), a_jcc_short(long);
long a_jrcxz(long), a_jt(long), a_mid(long), a_jmp_mid(long);
long a_fallthrough(long), a_fallen(long), a_push_ret(long);
long call_ret_imm(long), a_shared_a(long), a_shared_b(long), a_flags(long);
long a_mem_rsp(long), a_self(long), a_hot(long), a_retthunk(long);
long a_thunk(long), a_riprel(long), a_call(long);
void call_all_regs(long *regs);

void case_asm(void)
{
	static long (*const fns[])(long) = {
		a_leaf,	      a_jcc,	  a_jcc_short,	 a_jrcxz,   a_jt,
		a_mid,	      a_jmp_mid,  a_fallthrough, a_fallen,  a_push_ret,
		call_ret_imm, a_shared_a, a_shared_b,	 a_mem_rsp, a_self,
		a_hot,	      a_retthunk, a_thunk,	 a_riprel,  a_flags,
		a_call,
	};
	long regs[18] = { 0 };

	for (unsigned int f = 0; f < sizeof(fns) / sizeof(fns[0]); f++)
		for (long x = f == 15 ? -2 : 0; x < 5; x++)
			sum[f / 2] = sum[f / 2] * 31 + fns[f](x);
	(void)a_one(1);
	(void)a_two(2);
	call_all_regs(regs);
	for (int i = 0; i < 18; i++)
		sum[15] = sum[15] * 131 + regs[i];
}
