/*
 * From a stub or a trampoline to C and back with every register as it was.
 *
 * At an entry or a tail call the stack is
 *
 *	S       return address of the function's caller
 *	S - 24  a header's room
 *	S - 32  the patch's number; on the way out, where to go
 *
 * and at a return (the callee's return address was at R - 8)
 *
 *	R - 8   return address into the trampoline
 *	R - 16  a word for the slot
 *
 * so that in both cases one word lies above the saved registers: the last of
 * struct jump_save.  Flags are kept by lahf and seto, many times faster than
 * pushf and popf; the direction flag is clear between functions (psABI).
 */
	.text

	.macro	save
	push	%rax
	.cfi_adjust_cfa_offset 8
	push	%rcx
	.cfi_adjust_cfa_offset 8
	push	%rdx
	.cfi_adjust_cfa_offset 8
	push	%rsi
	.cfi_adjust_cfa_offset 8
	push	%rdi
	.cfi_adjust_cfa_offset 8
	push	%r8
	.cfi_adjust_cfa_offset 8
	push	%r9
	.cfi_adjust_cfa_offset 8
	push	%r10
	.cfi_adjust_cfa_offset 8
	push	%r11
	.cfi_adjust_cfa_offset 8
	push	%rbx
	.cfi_adjust_cfa_offset 8
	lahf
	seto	%al
	push	%rax
	.cfi_adjust_cfa_offset 8
	mov	%rsp, %rdi
	mov	%rsp, %rbx
	.cfi_remember_state
	.cfi_def_cfa_register %rbx
	and	$-64, %rsp
	.endm

	.macro	restore
	mov	%rbx, %rsp
	.cfi_restore_state
	pop	%rax
	.cfi_adjust_cfa_offset -8
	add	$0x7f, %al		/* 1 + 127 overflows: of */
	sahf
	pop	%rbx
	.cfi_adjust_cfa_offset -8
	pop	%r11
	.cfi_adjust_cfa_offset -8
	pop	%r10
	.cfi_adjust_cfa_offset -8
	pop	%r9
	.cfi_adjust_cfa_offset -8
	pop	%r8
	.cfi_adjust_cfa_offset -8
	pop	%rdi
	.cfi_adjust_cfa_offset -8
	pop	%rsi
	.cfi_adjust_cfa_offset -8
	pop	%rdx
	.cfi_adjust_cfa_offset -8
	pop	%rcx
	.cfi_adjust_cfa_offset -8
	pop	%rax
	.cfi_adjust_cfa_offset -8
	.endm

	/*
	 * With vector and x87 state saved around it: all that C and the
	 * library's string functions may use (x87, SSE, AVX, AVX-512).  Matrix
	 * tiles are eight kilobytes that nothing of ours touches.
	 */
	.set	XSTATE, 0xe7

	.macro	slowly fn
	mov	%rbx, %rsp
	push	%rbp			/* struct jump_save_all */
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rsp, %r12		/* C keeps it; its value is saved */
	and	$-64, %rsp
	sub	probe_xsave_size(%rip), %rsp
	xor	%eax, %eax		/* xsave leaves the header's rest */
	mov	%rax, 512(%rsp)
	mov	%rax, 520(%rsp)
	mov	%rax, 528(%rsp)
	mov	%rax, 536(%rsp)
	mov	%rax, 544(%rsp)
	mov	%rax, 552(%rsp)
	mov	%rax, 560(%rsp)
	mov	%rax, 568(%rsp)
	mov	$XSTATE, %eax
	xor	%edx, %edx
	xsave64	(%rsp)
	mov	%r12, %rdi
	call	\fn
	mov	$XSTATE, %eax
	xor	%edx, %edx
	xrstor64 (%rsp)
	mov	24(%r12), %r12
	.endm

	.macro	from_stub name, fast, slow
	.globl	\name
	.hidden	\name
	.type	\name, @function
	.p2align 5
\name:
	.cfi_startproc
	.cfi_def_cfa_offset 40
	save
	call	\fast
	test	%eax, %eax
	jnz	2f
1:	restore
	lea	8(%rsp), %rsp
	.cfi_adjust_cfa_offset -8
	jmp	*-8(%rsp)
	.cfi_def_cfa %rbx, 128
2:	slowly	\slow
	jmp	1b
	.cfi_endproc
	.size	\name, . - \name
	.endm

	from_stub probe_jump_enter_asm, probe_jump_enter, probe_jump_enter_slow
	from_stub probe_jump_tail_asm, probe_jump_tail, probe_jump_tail_slow

	.globl	probe_jump_leave_asm
	.hidden	probe_jump_leave_asm
	.type	probe_jump_leave_asm, @function
	.p2align 5
probe_jump_leave_asm:
	.cfi_startproc
	push	%rax
	.cfi_adjust_cfa_offset 8
	save
	call	probe_jump_leave
	test	%eax, %eax
	jnz	2f
1:	restore
	lea	8(%rsp), %rsp
	.cfi_adjust_cfa_offset -8
	ret
	.cfi_def_cfa %rbx, 104
2:	slowly	probe_jump_leave_slow
	jmp	1b
	.cfi_endproc
	.size	probe_jump_leave_asm, . - probe_jump_leave_asm

	.section .note.GNU-stack,"",@progbits
