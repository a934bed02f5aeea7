#include "probe/tramp.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/util.h"

#define FINE_STEPS 33 /* 0, 16, ... 512 */
#define CALL_AT	   27 /* offset of the call in a class's code */
#define JUMP_CALL  48 /* the same in the jump form */
#define PUSHED_MAX 96 /* frames the jump form copies by pushes */

#define AT_RET	0 /* offsets in the first stride */
#define AT_SWAP 16

uint32_t tramp_frame(unsigned int cls)
{
	unsigned int k = cls - FINE_STEPS;
	uint32_t octave;

	if (cls < FINE_STEPS)
		return cls * 16;
	octave = 512u << k / 8;
	return octave + octave / 8 * (k % 8 + 1);
}

int tramp_class(uint64_t frame)
{
	int lo = 0, hi = TRAMP_CLASSES - 1;

	if (frame > TRAMP_FRAME_MAX)
		return -E2BIG;
	if (frame <= 512)
		return (int)(frame + 15) / 16;
	while (lo < hi) {
		int mid = (lo + hi) / 2;

		if (tramp_frame((unsigned int)mid) < frame)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static uint64_t code_of(uint64_t base, unsigned int cls, enum tramp_form form)
{
	return base + (1 + cls * TRAMP_FORMS + form) * TRAMP_STRIDE;
}

static unsigned int back_at(enum tramp_form form)
{
	static const uint8_t at[TRAMP_FORMS] = { CALL_AT + 4, CALL_AT + 8,
						 JUMP_CALL + 8 };

	return at[form];
}

/* The jump form pushes small frames, four bytes of code for eight. */
static unsigned int jump_start(uint32_t n)
{
	return JUMP_CALL - (n <= PUSHED_MAX ? n / 2 : 8 + CALL_AT);
}

uint64_t tramp_entry(uint64_t base, unsigned int cls, enum tramp_form form)
{
	uint32_t n = tramp_frame(cls);

	if (form == TRAMP_JUMP)
		return code_of(base, cls, form) + jump_start(n);
	return code_of(base, cls, form) + (n ? 0 : CALL_AT);
}

uint64_t tramp_back(uint64_t base, unsigned int cls, enum tramp_form form)
{
	return code_of(base, cls, form) + back_at(form);
}

uint64_t tramp_ret(uint64_t base)
{
	return base + AT_RET;
}

uint64_t tramp_swap(uint64_t base)
{
	return base + AT_SWAP;
}

bool tramp_is_back(uint64_t base, uint64_t addr, unsigned int *cls,
		   enum tramp_form *form)
{
	uint64_t n;

	if (!tramp_inside(base, addr) || addr < base + TRAMP_STRIDE)
		return false;
	n = (addr - base) / TRAMP_STRIDE - 1;
	*cls = (unsigned int)(n / TRAMP_FORMS);
	*form = n % TRAMP_FORMS;
	return tramp_back(base, *cls, *form) == addr;
}

struct out {
	uint8_t *p;
};

static void bytes(struct out *o, const void *p, size_t n)
{
	memcpy(o->p, p, n);
	o->p += n;
}

#define CODE(o, ...)                                 \
	bytes((o), (const uint8_t[]){ __VA_ARGS__ }, \
	      sizeof((const uint8_t[]){ __VA_ARGS__ }))

static void u32(struct out *o, uint32_t v)
{
	bytes(o, &v, 4);
}

static void uleb(struct out *o, uint32_t v)
{
	do {
		*o->p++ = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
		v >>= 7;
	} while (v);
}

static void copy_frame(struct out *o, uint32_t n)
{
	CODE(o, 0x57, 0x56, 0x51);	     /* push rdi, rsi, rcx */
	CODE(o, 0x48, 0x8d, 0x7c, 0x24, 24); /* lea 24(rsp), rdi */
	CODE(o, 0x48, 0x8d, 0xb4, 0x24);     /* lea ...(rsp), rsi */
	u32(o, 24 + n + TRAMP_HEADER + 8);
	CODE(o, 0xb9); /* mov n / 8, ecx */
	u32(o, n / 8);
	CODE(o, 0xf3, 0x48, 0xa5); /* rep movsq */
	CODE(o, 0x59, 0x5e, 0x5f); /* pop rcx, rsi, rdi */
}

static void call_target(struct out *o, uint32_t n)
{
	CODE(o, 0x3e, 0xff, 0x94, 0x24); /* notrack call *target(rsp) */
	u32(o, n + (uint32_t)offsetof(struct tramp_header, target));
}

static void build_class(uint8_t *code, uint32_t n, enum tramp_form form)
{
	struct out o = { code };

	copy_frame(&o, n);
	assert(o.p == code + CALL_AT);
	if (form == TRAMP_REG)
		CODE(&o, 0x3e, 0x41, 0xff, 0xd3); /* notrack call *r11 */
	else
		call_target(&o, n);
	assert(o.p == code + back_at(form));
	CODE(&o, 0xcc);			  /* the second exception */
	CODE(&o, 0x4c, 0x8b, 0x9c, 0x24); /* mov saved(rsp), r11 */
	u32(&o, n + (uint32_t)offsetof(struct tramp_header, r11));
	CODE(&o, 0x48, 0x8d, 0xa4, 0x24); /* lea n + header(rsp), rsp */
	u32(&o, n + TRAMP_HEADER);
	CODE(&o, 0xc3);
	assert(o.p <= code + TRAMP_STRIDE);
}

static void build_jump(uint8_t *code, uint32_t n, uint64_t base, uint64_t at)
{
	struct out o = { code + jump_start(n) };

	if (n <= PUSHED_MAX) {
		/* The source moves down with the stack pointer. */
		for (uint32_t i = 0; i < n; i += 8)
			CODE(&o, 0xff, 0x74, 0x24, (uint8_t)(TRAMP_HEADER + n));
	} else {
		CODE(&o, 0x48, 0x8d, 0xa4, 0x24); /* lea -n(rsp), rsp */
		u32(&o, -n);
		copy_frame(&o, n);
	}
	assert(o.p == code + JUMP_CALL);
	call_target(&o, n);
	assert(o.p == code + back_at(TRAMP_JUMP));
	CODE(&o, 0xff, 0x15); /* call *TRAMP_LEAVE(rip) */
	u32(&o,
	    (uint32_t)(base + TRAMP_LEAVE - (at + (uint64_t)(o.p - code) + 4)));
	CODE(&o, 0x48, 0x8b, 0x64, 0x24, 0xf0); /* mov -16(rsp), rsp */
	CODE(&o, 0xc3);
	assert(o.p <= code + TRAMP_STRIDE);
}

static void cfa_offset(struct out *o, uint32_t off)
{
	*o->p++ = 0x0e;
	uleb(o, off);
}

static void advance(struct out *o, uint8_t by)
{
	*o->p++ = 0x40 | by;
}

/* Length first; the record is padded with DW_CFA_nop to 8 bytes. */
static void close_record(struct out *o, uint8_t *start)
{
	uint32_t len;

	while ((o->p - start) % 8)
		*o->p++ = 0;
	len = (uint32_t)(o->p - start) - 4;
	memcpy(start, &len, 4);
}

static uint8_t *open_fde(struct out *o, const uint8_t *cie, uint64_t at,
			 const uint8_t *buf, uint64_t base, uint32_t len)
{
	uint8_t *start = o->p;

	u32(o, 0);
	u32(o, (uint32_t)(o->p - cie));
	u32(o, (uint32_t)(at - (base + (uint64_t)(o->p - buf))));
	u32(o, len);
	*o->p++ = 0; /* no augmentation data */
	return start;
}

/* Three pushes at 'at', three pops before the call. */
static void copy_rules(struct out *o, uint32_t cfa, uint8_t at)
{
	if (at)
		advance(o, at);
	cfa_offset(o, cfa);
	for (uint32_t pushed = 8; pushed <= 24; pushed += 8) {
		advance(o, 1);
		cfa_offset(o, cfa + pushed);
	}
	advance(o, CALL_AT - 3 - 2); /* behind the first pop */
	cfa_offset(o, cfa + 16);
	advance(o, 1);
	cfa_offset(o, cfa + 8);
	advance(o, 1);
	cfa_offset(o, cfa);
}

static void class_fde(struct out *o, const uint8_t *cie, const uint8_t *buf,
		      uint64_t base, unsigned int cls, enum tramp_form form)
{
	uint32_t n = tramp_frame(cls), cfa = n + TRAMP_HEADER + 8;
	uint8_t *start = open_fde(o, cie, code_of(base, cls, form), buf, base,
				  TRAMP_STRIDE);

	if (form != TRAMP_JUMP) {
		copy_rules(o, cfa, 0);
		/* Behind the breakpoint, mov and lea the frame is closed. */
		advance(o, (uint8_t)(back_at(form) + 1 + 8 + 8 - CALL_AT));
	} else if (n > PUSHED_MAX) {
		cfa_offset(o, TRAMP_HEADER + 8);
		copy_rules(o, cfa, (uint8_t)(jump_start(n) + 8));
		advance(o, back_at(form) + 6 + 5 - JUMP_CALL);
	} else {
		cfa_offset(o, TRAMP_HEADER + 8);
		advance(o, (uint8_t)jump_start(n));
		for (uint32_t i = 8; i <= n; i += 8) {
			advance(o, 4);
			cfa_offset(o, TRAMP_HEADER + 8 + i);
		}
		advance(o, back_at(form) + 6 + 5 - JUMP_CALL);
	}
	cfa_offset(o, 8);
	close_record(o, start);
}

size_t tramp_unwind(void)
{
	return TRAMP_CODE;
}

void tramp_build(uint8_t *buf, uint64_t base)
{
	struct out o = { buf + TRAMP_CODE };
	uint8_t *cie = o.p, *start;

	memset(buf, 0xcc, TRAMP_CODE);
	memset(buf + TRAMP_CODE, 0, TRAMP_SIZE - TRAMP_CODE);
	buf[AT_RET] = 0xc3;

	u32(&o, 0);
	u32(&o, 0);
	CODE(&o, 1, 'z', 'R', 0, 1, 0x78, 16); /* aligns 1 and -8 */
	CODE(&o, 1, 0x1b);		       /* pcrel, sdata4 */
	CODE(&o, 0x0c, 7, 8, 0x90, 1);	       /* cfa rsp+8, ra at cfa-8 */
	close_record(&o, cie);
	start = open_fde(&o, cie, base, buf, base, AT_SWAP);
	close_record(&o, start);
	for (unsigned int cls = 0; cls < TRAMP_CLASSES; cls++) {
		for (int form = 0; form < TRAMP_FORMS; form++) {
			uint64_t at = code_of(base, cls, form);

			if (form == TRAMP_JUMP)
				build_jump(buf + (at - base), tramp_frame(cls),
					   base, at);
			else
				build_class(buf + (at - base), tramp_frame(cls),
					    form);
			class_fde(&o, cie, buf, base, cls, form);
		}
	}
	u32(&o, 0);
	assert(o.p <= buf + TRAMP_SIZE);
}
