/*
 * All of the test guest's ring 0.
 *
 * The VMM enters at _start in long mode, RSI pointing at a zero page.  We
 * take our own page tables (4 GiB one to one, open to ring 3), load the
 * tables, and go to ring 3 for good, with all ports open and interrupts on.  Back in
 * ring 0 are only three things: count an interrupt, turn a fault into a call
 * of guest_fault() in ring 3, and four services behind ud2.
 *
 * It is kept this small because a software KVM emulates ring 0, at
 * microseconds an instruction.
 */
#define KERNEL_CS 0x10
#define KERNEL_DS 0x18
#define USER_DS	  0x2b
#define USER_CS	  0x33
#define TSS0	  0x40

#define MSR_APIC_BASE 0x1b
#define MSR_X2_EOI    0x80b
#define MSR_X2_SVR    0x80f

#define CPUS 8

/* The I/O permission bitmap stands behind all TSSs and serves them all. */
#define TSS_LIMIT (CPUS * 128 + 8192)

	.section .text.start, "ax"
	.code64
	.globl _start
_start:
	cli
	mov	%rsi, zero_page
	mov	$pml4, %eax
	mov	%rax, %cr3
	lgdt	gdt_ptr
	xor	%edi, %edi		/* CPU 0 */
	mov	$guest_start, %rsi
	jmp	to_ring3

/* CPU edi, to the ring-3 function at rsi; never returns. */
to_ring3:
	lidt	idt_ptr
	mov	%edi, %eax
	shl	$12, %rax
	lea	kernel_stacks + 4096(%rax), %rsp
	mov	%edi, %eax		/* this CPU's TSS: only its stack */
	shl	$7, %eax
	lea	tss(%rax), %ebx
	mov	%rsp, 4(%rbx)
	movw	$io_bitmap - tss, %dx
	sub	%ax, %dx
	mov	%dx, 102(%rbx)
	mov	%edi, %ecx
	shl	$4, %ecx
	mov	%ebx, %eax
	movw	$TSS_LIMIT, gdt_tss(%rcx)
	mov	%ax, gdt_tss + 2(%rcx)
	shr	$16, %eax
	mov	%al, gdt_tss + 4(%rcx)
	movb	$0x89, gdt_tss + 5(%rcx)
	mov	%ah, gdt_tss + 7(%rcx)
	lea	TSS0(%rcx), %eax
	ltr	%ax
	mov	$MSR_APIC_BASE, %ecx
	rdmsr
	or	$0xc00, %eax		/* on, x2APIC */
	wrmsr
	mov	$MSR_X2_SVR, %ecx
	mov	$0x1ff, %eax
	xor	%edx, %edx
	wrmsr
	mov	%edi, %eax
	inc	%eax
	shl	$16, %rax
	lea	user_stacks - 8(%rax), %rax
	push	$USER_DS
	push	%rax
	push	$0x202			/* IF; ports by the TSS's bitmap */
	push	$USER_CS
	push	%rsi
	iretq

/*
 * Where a started CPU comes up, in real mode at 0x8000 (copied there).
 * ap_index says which it is; only one starts at a time.
 */
	.globl ap_trampoline, ap_trampoline_end
	.code16
ap_trampoline:
	cli
	xor	%ax, %ax
	mov	%ax, %ds
	mov	$0x20, %eax		/* PAE */
	mov	%eax, %cr4
	mov	$pml4, %eax
	mov	%eax, %cr3
	mov	$0xc0000080, %ecx
	rdmsr
	or	$0x100, %eax		/* LME */
	wrmsr
	lgdtl	ap_gdt_ptr - ap_trampoline + 0x8000
	mov	$0x80010033, %eax	/* PG, PE at once: straight to long */
	mov	%eax, %cr0
	ljmpl	$KERNEL_CS, $ap_long
ap_gdt_ptr:
	.word	gdt_end - gdt - 1
	.long	gdt
ap_trampoline_end:

	.code64
ap_long:
	mov	$KERNEL_DS, %eax
	mov	%eax, %ss
	mov	%eax, %ds
	mov	%eax, %es
	mov	ap_index, %edi
	mov	$guest_ap_start, %rsi
	jmp	to_ring3

/* One stub a vector, sixteen bytes each; %rax's place holds the vector. */
	.balign 16
	.globl irq_stubs
irq_stubs:
	.set vec, 0
	.rept 256
	.balign 16
	.if !(vec == 8 || (vec >= 10 && vec <= 14) || vec == 17 || vec == 21 || vec == 29 || vec == 30)
	push	$0
	.endif
	push	$vec
	.if vec == 6
	jmp	service
	.elseif vec < 32
	jmp	fault
	.else
	jmp	interrupt
	.endif
	.set vec, vec + 1
	.endr

/* Stack: vector, error code, rip, cs, rflags, rsp, ss. */
interrupt:
	push	%rax
	push	%rcx
	push	%rdx
	mov	24(%rsp), %eax
	lock incl irq_count(, %rax, 4)
	lock incl irq_count		/* [0]: of any vector */
	mov	$MSR_X2_EOI, %ecx
	xor	%eax, %eax
	xor	%edx, %edx
	wrmsr
	pop	%rdx
	pop	%rcx
	pop	%rax
	add	$16, %rsp
	iretq

/* Go on in ring 3 at guest_fault(vector, error, rip, address). */
fault:
	pop	%rdi
	pop	%rsi
	mov	(%rsp), %rdx
	mov	%cr2, %rcx
	testb	$3, 8(%rsp)
	jz	dead			/* in ring 0: a bug right here */
	movq	$0x202, 16(%rsp)	/* RF would make the iretq fail */
	mov	$guest_fault, %rax
	mov	%rax, (%rsp)
	andq	$~15, 24(%rsp)
	subq	$8, 24(%rsp)
	iretq
dead:	mov	%rdx, %rbx
	mov	$0xee, %eax
	mov	$0x501, %edx
	outb	%al, %dx
1:	hlt
	jmp	1b

/*
 * The gate is the undefined instruction: int $n and syscall do not get from
 * ring 3 to ring 0 on every software KVM, an exception does.  rax is which;
 * rdi, rsi are arguments; rcx, rdx are lost.
 */
service:
	add	$16, %rsp
	addq	$2, (%rsp)
	cmp	$1, %eax
	jb	wait
	je	write_msr
	cmp	$3, %eax
	jb	read_msr
	mov	%cr3, %rax		/* 3: forget translations */
	mov	%rax, %cr3
	iretq
wait:					/* 0: while (*rdi == esi) halt once */
	cmp	%esi, (%rdi)
	jne	1f
	sti
	hlt
	cli
1:	iretq
write_msr:				/* 1: msr rdi = rsi */
	mov	%edi, %ecx
	mov	%esi, %eax
	mov	%rsi, %rdx
	shr	$32, %rdx
	wrmsr
	iretq
	.globl	service_read_msr
service_read_msr:
read_msr:				/* 2: rax = msr rdi */
	mov	%edi, %ecx
	rdmsr
	shl	$32, %rdx
	or	%rdx, %rax
	iretq

	.data
	.balign 4096
	.globl pml4, pdpt
pml4:
	.quad	pdpt + 7
	.fill	511, 8, 0
pdpt:
	.quad	pd + 7, pd + 0x1000 + 7, pd + 0x2000 + 7, pd + 0x3000 + 7
	.fill	508, 8, 0
pd:
	.set	i, 0
	.rept	2048
	.quad	(i << 21) | 0x87	/* present, writable, user, 2 MiB */
	.set	i, i + 1
	.endr

	.balign 16
gdt:	.quad	0, 0
	.quad	0x00af9b000000ffff	/* 0x10 */
	.quad	0x00cf93000000ffff	/* 0x18 */
	.quad	0x00cffb000000ffff	/* 0x20 */
	.quad	0x00cff3000000ffff	/* 0x28 */
	.quad	0x00affb000000ffff	/* 0x30 */
	.quad	0
gdt_tss:				/* 0x40: a TSS for each CPU */
	.fill	CPUS * 2, 8, 0
gdt_end:
gdt_ptr:
	.word	gdt_end - gdt - 1
	.quad	gdt
	.balign 16
idt_ptr:
	.word	4095
	.quad	idt

	.bss
	.balign 4096
	.globl idt, zero_page, irq_count, ap_index
idt:	.fill	4096
kernel_stacks:
	.fill	CPUS * 4096
user_stacks:
	.fill	CPUS * 65536
tss:	.fill	CPUS * 128
io_bitmap:
	.fill	8192 + 128
irq_count:
	.fill	256 * 4
zero_page:
	.quad	0
ap_index:
	.long	0
