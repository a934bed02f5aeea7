#include "probe/cfi.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "probe/regs.h"

/* Pointer encodings: low nibble the format, then what it is relative to. */
#define PE_ABSPTR 0x00
#define PE_ULEB	  0x01
#define PE_UDATA2 0x02
#define PE_UDATA4 0x03
#define PE_UDATA8 0x04
#define PE_SLEB	  0x09
#define PE_SDATA2 0x0a
#define PE_SDATA4 0x0b
#define PE_SDATA8 0x0c
#define PE_PCREL  0x10
#define PE_INDIR  0x80
#define PE_OMIT	  0xff

#define SAVED_ROWS 8 /* nested DW_CFA_remember_state; gcc needs one */

struct cursor {
	const struct cfi *c;
	size_t at, end; /* offsets into the section */
	bool bad;
};

static uint64_t get(struct cursor *k, unsigned int bytes)
{
	uint64_t v = 0;

	if (k->bad || k->end - k->at < bytes) {
		k->bad = true;
		return 0;
	}
	memcpy(&v, k->c->data + k->at, bytes);
	k->at += bytes;
	return v;
}

static uint64_t get_leb(struct cursor *k, bool is_signed)
{
	uint64_t v = 0, b;
	unsigned int shift = 0;

	do {
		b = get(k, 1);
		if (shift < 64)
			v |= (b & 0x7f) << shift;
		shift += 7;
	} while (b & 0x80 && !k->bad);
	if (is_signed && b & 0x40 && shift < 64)
		v |= ~0ull << shift;
	return v;
}

static uint64_t get_uleb(struct cursor *k)
{
	return get_leb(k, false);
}

static int64_t get_sleb(struct cursor *k)
{
	return (int64_t)get_leb(k, true);
}

static uint64_t get_encoded(struct cursor *k, uint8_t enc, bool relative)
{
	uint64_t here = k->c->addr + k->at, v;

	if (enc == PE_OMIT)
		return 0;
	switch (enc & 0x0f) {
	case PE_ABSPTR:
	case PE_UDATA8:
	case PE_SDATA8: v = get(k, 8); break;
	case PE_ULEB: v = get_uleb(k); break;
	case PE_SLEB: v = (uint64_t)get_sleb(k); break;
	case PE_UDATA2: v = get(k, 2); break;
	case PE_SDATA2: v = (uint64_t)(int64_t)(int16_t)get(k, 2); break;
	case PE_UDATA4: v = get(k, 4); break;
	case PE_SDATA4: v = (uint64_t)(int64_t)(int32_t)get(k, 4); break;
	default: k->bad = true; return 0;
	}
	if (!relative)
		return v;
	switch (enc & 0x70) {
	case 0: return v;
	case PE_PCREL: return v ? v + here : 0;
	default: k->bad = true; return 0; /* text- or data-relative */
	}
}

struct cie {
	uint64_t code_align;
	int64_t data_align;
	uint64_t ra;
	uint8_t fde_enc, lsda_enc;
	bool has_aug, has_lsda, signal;
	size_t prog, end;
};

/* A record's length; the cursor's end becomes the record's. */
static bool open_record(struct cursor *k)
{
	uint64_t len = get(k, 4);

	if (len == 0xffffffff)
		len = get(k, 8);
	if (k->bad || !len || len > k->end - k->at)
		return false;
	k->end = k->at + len;
	return true;
}

static bool read_cie(const struct cfi *c, size_t at, struct cie *out)
{
	struct cursor k = { c, at, c->size, false };
	size_t aug_end = 0;
	const char *aug;
	uint8_t version;

	memset(out, 0, sizeof(*out));
	if (at >= c->size || !open_record(&k) || get(&k, 4) != 0)
		return false;
	version = (uint8_t)get(&k, 1);
	if (version != 1 && version != 3)
		return false;
	aug = (const char *)c->data + k.at;
	while (get(&k, 1) && !k.bad)
		;
	if (k.bad)
		return false;
	out->code_align = get_uleb(&k);
	out->data_align = get_sleb(&k);
	out->ra = version == 1 ? get(&k, 1) : get_uleb(&k);
	if (*aug == 'z') {
		uint64_t len = get_uleb(&k);

		if (k.bad || len > k.end - k.at)
			return false;
		out->has_aug = true;
		aug_end = k.at + len;
		aug++;
	}
	for (; *aug; aug++) {
		switch (*aug) {
		case 'R': out->fde_enc = (uint8_t)get(&k, 1); break;
		case 'L':
			out->lsda_enc = (uint8_t)get(&k, 1);
			out->has_lsda = out->lsda_enc != PE_OMIT;
			break;
		case 'P': {
			uint8_t enc = (uint8_t)get(&k, 1);

			get_encoded(&k, enc, false);
			break;
		}
		case 'S': out->signal = true; break;
		case 'B': break;
		default:
			/* Unknown, but its length was said. */
			if (!out->has_aug)
				return false;
		}
	}
	if (k.bad)
		return false;
	out->prog = out->has_aug ? aug_end : k.at;
	out->end = k.end;
	return true;
}

static bool read_fde(const struct cfi *c, size_t at, struct cfi_fde *out)
{
	struct cursor k = { c, at, c->size, false };
	struct cie cie;
	uint64_t delta;
	size_t here;

	if (!open_record(&k))
		return false;
	here = k.at;
	delta = get(&k, 4);
	if (k.bad || !delta || delta > here || here - delta > UINT32_MAX)
		return false;
	out->cie = (uint32_t)(here - delta);
	if (!read_cie(c, out->cie, &cie) || cie.fde_enc & PE_INDIR)
		return false;
	out->lo = get_encoded(&k, cie.fde_enc, true);
	out->hi = out->lo + get_encoded(&k, cie.fde_enc & 0x0f, false);
	out->lsda = false;
	if (cie.has_aug) {
		uint64_t len = get_uleb(&k);
		size_t end;

		if (k.bad || len > k.end - k.at)
			return false;
		end = k.at + len;
		if (cie.has_lsda)
			out->lsda = get_encoded(&k, cie.lsda_enc & 0x7f,
						false) != 0;
		k.at = end;
	}
	if (k.bad || out->hi <= out->lo || !out->lo || k.end > UINT32_MAX)
		return false;
	out->at = (uint32_t)k.at;
	out->end = (uint32_t)k.end;
	return true;
}

static int by_lo(const void *a, const void *b)
{
	const struct cfi_fde *x = a, *y = b;

	return x->lo < y->lo ? -1 : x->lo > y->lo;
}

int cfi_open(struct cfi *c, const void *data, size_t size, uint64_t addr)
{
	size_t room = 0;

	memset(c, 0, sizeof(*c));
	c->data = data;
	c->size = size;
	c->addr = addr;
	for (size_t at = 0; at < size;) {
		struct cursor k = { c, at, size, false };
		size_t start = at;

		if (!open_record(&k)) {
			/* A terminator may stand in the middle: crtend.o's
			 * is last, but linkers have put more behind it. */
			at += 4;
			continue;
		}
		at = k.end;
		if (c->n == room) {
			void *p;

			room = room ? room * 2 : 64;
			p = reallocarray(c->fde, room, sizeof(*c->fde));
			if (!p) {
				cfi_close(c);
				return -ENOMEM;
			}
			c->fde = p;
		}
		if (read_fde(c, start, &c->fde[c->n]))
			c->n++;
	}
	if (c->n)
		qsort(c->fde, c->n, sizeof(*c->fde), by_lo);
	return 0;
}

void cfi_close(struct cfi *c)
{
	free(c->fde);
	memset(c, 0, sizeof(*c));
}

const struct cfi_fde *cfi_find(const struct cfi *c, uint64_t pc)
{
	size_t lo = 0, hi = c->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (c->fde[mid].lo <= pc)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo || pc >= c->fde[lo - 1].hi)
		return NULL;
	return &c->fde[lo - 1];
}

/* psABI numbers: rax rdx rcx rbx rsi rdi rbp rsp r8... */
static uint8_t dwarf_reg(uint64_t n)
{
	static const uint8_t map[8] = { X86_RAX, X86_RDX, X86_RCX, X86_RBX,
					X86_RSI, X86_RDI, X86_RBP, X86_RSP };

	if (n < 8)
		return map[n];
	return n < 16 ? (uint8_t)n : X86_NONE;
}

/* breg; deref; [plus_uconst | const, plus]: what gcc writes for DRAP. */
static void read_expr(struct cursor *k, struct cfi_row *row)
{
	uint64_t len = get_uleb(k);
	struct cursor e = *k;
	uint8_t op;

	row->kind = CFA_EXPR;
	if (k->bad || len > k->end - k->at) {
		k->bad = true;
		return;
	}
	k->at += len;
	e.end = e.at + len;
	op = (uint8_t)get(&e, 1);
	if (op < 0x70 || op > 0x7f) /* DW_OP_breg0..15 */
		return;
	row->reg = dwarf_reg(op - 0x70u);
	row->off = get_sleb(&e);
	row->add = 0;
	if (e.bad)
		return;
	if (e.at == e.end) {
		row->kind = CFA_REG;
		return;
	}
	if (get(&e, 1) != 0x06) /* DW_OP_deref */
		return;
	if (e.at == e.end) {
		row->kind = CFA_DEREF;
		return;
	}
	if (get(&e, 1) != 0x23) /* DW_OP_plus_uconst */
		return;
	row->add = (int64_t)get_uleb(&e);
	if (!e.bad && e.at == e.end)
		row->kind = CFA_DEREF;
}

struct machine {
	struct cfi_row row;
	struct cfi_row saved[SAVED_ROWS];
	unsigned int depth;
	uint64_t loc;
};

static void saved_at(struct machine *m, uint64_t reg, int64_t off)
{
	if (dwarf_reg(reg) == X86_RBP)
		m->row.rbp_save = off;
	if (off < m->row.lowest_save)
		m->row.lowest_save = off;
}

/* Offsets are in units the CIE says; a hostile one wraps around. */
static int64_t factored(const struct cie *cie, uint64_t n)
{
	return (int64_t)(n * (uint64_t)cie->data_align);
}

/* Run [k->at, k->end) up to and including the row for pc. */
static bool run(struct cursor *k, const struct cie *cie, struct machine *m,
		uint64_t pc, uint8_t enc)
{
	while (k->at < k->end && !k->bad) {
		uint8_t op = (uint8_t)get(k, 1);
		uint64_t n, next = m->loc;
		uint8_t low = op & 0x3f;

		switch (op >> 6) {
		case 1:
			next = m->loc + low * cie->code_align;
			if (next > pc)
				return true;
			m->loc = next;
			continue;
		case 2: saved_at(m, low, factored(cie, get_uleb(k))); continue;
		case 3: /* restore */
			if (dwarf_reg(low) == X86_RBP)
				m->row.rbp_save = 0;
			continue;
		}
		switch (op) {
		case 0x00: break; /* nop */
		case 0x01:	  /* set_loc */
			next = get_encoded(k, enc, true);
			break;
		case 0x02: next += get(k, 1) * cie->code_align; break;
		case 0x03: next += get(k, 2) * cie->code_align; break;
		case 0x04: next += get(k, 4) * cie->code_align; break;
		case 0x05: /* offset_extended */
			n = get_uleb(k);
			saved_at(m, n, factored(cie, get_uleb(k)));
			break;
		case 0x11: /* ..._sf */
			n = get_uleb(k);
			saved_at(m, n, factored(cie, (uint64_t)get_sleb(k)));
			break;
		case 0x07: /* undefined */
			if (get_uleb(k) == cie->ra)
				m->row.outermost = true;
			break;
		case 0x06:
		case 0x08: get_uleb(k); break;
		case 0x09:
			get_uleb(k);
			get_uleb(k);
			break;
		case 0x0a: /* remember_state */
			if (m->depth == SAVED_ROWS)
				return false;
			m->saved[m->depth++] = m->row;
			break;
		case 0x0b: /* restore_state */
			if (!m->depth)
				return false;
			m->row = m->saved[--m->depth];
			break;
		case 0x0c: /* def_cfa */
		case 0x12:
			m->row.kind = CFA_REG;
			m->row.reg = dwarf_reg(get_uleb(k));
			m->row.off =
				op == 0x0c
					? (int64_t)get_uleb(k)
					: factored(cie, (uint64_t)get_sleb(k));
			break;
		case 0x0d: m->row.reg = dwarf_reg(get_uleb(k)); break;
		case 0x0e: m->row.off = (int64_t)get_uleb(k); break;
		case 0x13:
			m->row.off = factored(cie, (uint64_t)get_sleb(k));
			break;
		case 0x0f: read_expr(k, &m->row); break;
		case 0x10: /* expression */
		case 0x16: /* val_expression */
			get_uleb(k);
			n = get_uleb(k);
			if (k->bad || n > k->end - k->at)
				return false;
			k->at += n;
			break;
		case 0x14:
		case 0x15:
			get_uleb(k);
			get_uleb(k);
			break;
		case 0x2e: get_uleb(k); break; /* GNU_args_size */
		default: return false;
		}
		if (next != m->loc) {
			if (next > pc)
				return true;
			m->loc = next;
		}
	}
	return !k->bad;
}

void cfi_row(const struct cfi *c, uint64_t pc, struct cfi_row *row)
{
	const struct cfi_fde *f = cfi_find(c, pc);
	struct machine m = { .row.lowest_save = -8 };
	struct cursor k = { .c = c };
	struct cie cie;

	memset(row, 0, sizeof(*row));
	if (!f || !read_cie(c, f->cie, &cie))
		return;
	/* The CIE's program is the state at the first byte: no location of
	 * its own, so it is run for a pc nothing can be beyond. */
	k.at = cie.prog;
	k.end = cie.end;
	if (!run(&k, &cie, &m, UINT64_MAX, cie.fde_enc))
		return;
	m.loc = f->lo;
	k.at = f->at;
	k.end = f->end;
	if (!run(&k, &cie, &m, pc, cie.fde_enc))
		return;
	if (m.row.kind == CFA_REG && m.row.reg == X86_NONE)
		return;
	*row = m.row;
	row->signal = cie.signal;
}
