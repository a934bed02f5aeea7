/*
 * Shapes no compiler promises: the smallest functions, exits without a
 * branch, epilogues two functions share, targets in the red zone, flags that
 * live across a tail call.
 */
	.text

#define FUNC(n)				\
	.globl n; .type n, @function;	\
n:	.cfi_startproc
#define END(n)				\
	.cfi_endproc; .size n, . - n

/* one byte, no padding behind it */
	.p2align 4
FUNC(a_one)
	ret
END(a_one)
/* two bytes: a short jump to the one before */
FUNC(a_two)
	jmp	a_one
END(a_two)
FUNC(a_leaf)
	lea	1(%rdi), %rax
	ret
END(a_leaf)
/* it starts with a call through memory, as a kernel's paravirtual stubs do */
FUNC(a_call)
	call	*a_call_to(%rip)
	add	$3, %rax
	ret
END(a_call)
/* a conditional tail call, far and short */
FUNC(a_jcc)
	test	%rdi, %rdi
	.byte	0x0f, 0x84
	.long	a_leaf - . - 4
	lea	5(%rdi), %rax
	ret
END(a_jcc)
FUNC(a_jcc_short)
	cmp	$3, %rdi
	ja	a_leaf
	lea	7(%rdi), %rax
	repz ret
END(a_jcc_short)
FUNC(a_jrcxz)
	mov	%rdi, %rcx
	jrcxz	a_leaf
	mov	%rcx, %rax
	ret
END(a_jrcxz)

/* a switch with no frame: looks like a tail call, is none */
	.p2align 4
FUNC(a_jt)
	and	$3, %edi
	lea	a_jt_table(%rip), %rdx
	movslq	(%rdx,%rdi,4), %rax
	add	%rdx, %rax
	jmp	*%rax
.La0:	mov	$11, %eax
	ret
.La1:	mov	$22, %eax
	ret
.La2:	jmp	a_leaf
.La3:	mov	$44, %eax
	ret
END(a_jt)
	.section .rodata
	.p2align 2
a_jt_table:
	.long	.La0 - a_jt_table, .La1 - a_jt_table
	.long	.La2 - a_jt_table, .La3 - a_jt_table
	.text

/* into the middle of another function, at its entry's stack depth */
FUNC(a_mid)
	mov	$1, %eax
.Lmid:	add	%rdi, %rax
	ret
END(a_mid)
FUNC(a_jmp_mid)
	mov	$100, %eax
	jmp	.Lmid
END(a_jmp_mid)

/* no branch at all: runs on into the next function */
FUNC(a_fallthrough)
	add	$10, %rdi
END(a_fallthrough)
FUNC(a_fallen)
	lea	3(%rdi), %rax
	ret
END(a_fallen)

FUNC(a_push_ret)
	lea	a_leaf(%rip), %rax
	push	%rax
	.cfi_adjust_cfa_offset 8
	ret
	.cfi_adjust_cfa_offset -8
END(a_push_ret)

/* pops two words of arguments; the caller pushed them */
FUNC(a_ret_imm)
	mov	8(%rsp), %rax
	add	16(%rsp), %rax
	ret	$16
END(a_ret_imm)
FUNC(a_ret_imm_tail)
	mov	8(%rsp), %rcx
	add	$1, %rcx
	mov	%rcx, 8(%rsp)
	jmp	a_ret_imm
END(a_ret_imm_tail)
FUNC(call_ret_imm)
	push	%rdi
	.cfi_adjust_cfa_offset 8
	push	$5
	.cfi_adjust_cfa_offset 8
	push	$6
	.cfi_adjust_cfa_offset 8
	call	a_ret_imm
	.cfi_adjust_cfa_offset -16
	push	%rax
	.cfi_adjust_cfa_offset 8
	sub	$8, %rsp
	.cfi_adjust_cfa_offset 8
	push	$7
	.cfi_adjust_cfa_offset 8
	push	$8
	.cfi_adjust_cfa_offset 8
	call	a_ret_imm_tail
	.cfi_adjust_cfa_offset -16
	add	$8, %rsp
	.cfi_adjust_cfa_offset -8
	pop	%rcx
	.cfi_adjust_cfa_offset -8
	imul	%rcx, %rax
	pop	%rdi
	.cfi_adjust_cfa_offset -8
	ret
END(call_ret_imm)

/* two functions, one epilogue without a name */
FUNC(a_shared_a)
	push	%rbx
	.cfi_adjust_cfa_offset 8
	lea	1(%rdi), %rbx
	jmp	.Lshared
END(a_shared_a)
FUNC(a_shared_b)
	push	%rbx
	.cfi_adjust_cfa_offset 8
	lea	2(%rdi), %rbx
.Lshared:
	lea	(%rbx,%rbx), %rax
	pop	%rbx
	.cfi_adjust_cfa_offset -8
	ret
END(a_shared_b)

/* the carry flag and every register are arguments */
FUNC(a_flags_g)
	adc	%r10, %rdi
	lea	(%rdi,%r11), %rax
	ret
END(a_flags_g)
FUNC(a_flags)
	mov	$1000, %r10d
	mov	$7, %r11d
	stc
	jmp	a_flags_g
END(a_flags)

/* the target waits in the red zone */
FUNC(a_mem_rsp)
	lea	a_leaf(%rip), %rax
	mov	%rax, -16(%rsp)
	jmp	*-16(%rsp)
END(a_mem_rsp)

/* what a kernel's return looks like once its thunks are patched */
FUNC(a_patched)
	lea	2(%rdi), %rax
	ret
	int3
	int3
	int3
	int3
END(a_patched)

/* a loop to its own first byte: the same activation */
FUNC(a_self)
	dec	%rdi
	jns	a_self
	mov	%rdi, %rax
	ret
END(a_self)

/* a hot part and a cold part that comes back into the middle */
FUNC(a_hot)
	push	%rbp
	.cfi_adjust_cfa_offset 8
	test	%rdi, %rdi
	js	a_hot.cold
.Lhot:	lea	(%rdi,%rdi), %rax
	pop	%rbp
	.cfi_adjust_cfa_offset -8
	ret
END(a_hot)
	.section .text.unlikely,"ax"
	.type a_hot.cold, @function
a_hot.cold:
	.cfi_startproc
	.cfi_def_cfa_offset 16
	neg	%rdi
	jmp	.Lhot
	.cfi_endproc
	.size a_hot.cold, . - a_hot.cold
	.text

/* thunks under other names than the compiler's are functions like others;
   these have the compiler's */
	.weak __x86_return_thunk
	.type __x86_return_thunk, @function
__x86_return_thunk:
	.cfi_startproc
	ret
	.cfi_endproc
	.size __x86_return_thunk, . - __x86_return_thunk
	.weak __x86_indirect_thunk_r11
	.type __x86_indirect_thunk_r11, @function
__x86_indirect_thunk_r11:
	.cfi_startproc
	jmp	*%r11
	.cfi_endproc
	.size __x86_indirect_thunk_r11, . - __x86_indirect_thunk_r11
FUNC(a_retthunk)
	lea	9(%rdi), %rax
	jmp	__x86_return_thunk
END(a_retthunk)
FUNC(a_thunk)
	lea	a_leaf(%rip), %r11
	jmp	__x86_indirect_thunk_r11
END(a_thunk)

/* the whole red zone is in use when it is hit, and its first instruction
   is relative to rip */
FUNC(a_riprel)
	mov	a_word(%rip), %rax
	mov	%rdi, -8(%rsp)
	mov	%rax, -128(%rsp)
	add	-8(%rsp), %rax
	add	-128(%rsp), %rax
	ret
END(a_riprel)
	.section .rodata
	.p2align 3
a_word:	.quad	12345
	.text

/* rdi: a struct of every register, set before and read back after a call */
FUNC(call_all_regs)
	push	%rbx
	.cfi_adjust_cfa_offset 8
	push	%rbp
	.cfi_adjust_cfa_offset 8
	push	%r12
	.cfi_adjust_cfa_offset 8
	push	%r13
	.cfi_adjust_cfa_offset 8
	push	%r14
	.cfi_adjust_cfa_offset 8
	push	%r15
	.cfi_adjust_cfa_offset 8
	push	%rdi
	.cfi_adjust_cfa_offset 8
	mov	$0x101, %eax
	mov	$0x202, %ebx
	mov	$0x303, %ecx
	mov	$0x404, %edx
	mov	$0x505, %esi
	mov	$0x606, %edi
	mov	$0x707, %ebp
	mov	$0x808, %r8d
	mov	$0x909, %r9d
	mov	$0xa0a, %r10d
	mov	$0xb0b, %r11d
	mov	$0xc0c, %r12d
	mov	$0xd0d, %r13d
	mov	$0xe0e, %r14d
	mov	$0xf0f, %r15d
	movq	%rcx, %xmm0
	movq	%rdx, %xmm15
	call	a_keep_tail
	pushfq
	.cfi_adjust_cfa_offset 8
	push	%rdi
	.cfi_adjust_cfa_offset 8
	mov	16(%rsp), %rdi
	mov	%rax, 0(%rdi)
	mov	%rbx, 8(%rdi)
	mov	%rcx, 16(%rdi)
	mov	%rdx, 24(%rdi)
	mov	%rsi, 32(%rdi)
	pop	%rax
	.cfi_adjust_cfa_offset -8
	mov	%rax, 40(%rdi)
	mov	%rbp, 48(%rdi)
	mov	%r8, 56(%rdi)
	mov	%r9, 64(%rdi)
	mov	%r10, 72(%rdi)
	mov	%r11, 80(%rdi)
	mov	%r12, 88(%rdi)
	mov	%r13, 96(%rdi)
	mov	%r14, 104(%rdi)
	mov	%r15, 112(%rdi)
	pop	%rax
	.cfi_adjust_cfa_offset -8
	and	$0x8d5, %eax
	mov	%rax, 120(%rdi)
	movq	%xmm0, %rax
	mov	%rax, 128(%rdi)
	movq	%xmm15, %rax
	mov	%rax, 136(%rdi)
	pop	%rdi
	.cfi_adjust_cfa_offset -8
	pop	%r15
	.cfi_adjust_cfa_offset -8
	pop	%r14
	.cfi_adjust_cfa_offset -8
	pop	%r13
	.cfi_adjust_cfa_offset -8
	pop	%r12
	.cfi_adjust_cfa_offset -8
	pop	%rbp
	.cfi_adjust_cfa_offset -8
	pop	%rbx
	.cfi_adjust_cfa_offset -8
	ret
END(call_all_regs)
/* touches nothing: the caller may count on every register but rsp */
FUNC(a_keep)
	stc
	ret
END(a_keep)
FUNC(a_keep_tail)
	jmp	a_keep
END(a_keep_tail)

	.section .data.rel.ro,"aw",@progbits
	.p2align 3
a_call_to:
	.quad	a_leaf

	.section .note.GNU-stack,"",@progbits
