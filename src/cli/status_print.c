#include "cli/status_print.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "igb/mbx.h"
#include "igb/pf_port.h"
#include "igb/regs.h"

static const char *str(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static long long num(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static bool yes(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

static void print_vlans(FILE *f, const json_t *list)
{
	size_t n = json_array_size(list);

	for (size_t i = 0; i < n && i < 8; i++)
		fprintf(f, "%s%lld", i ? "," : " VLANs ",
			(long long)json_integer_value(json_array_get(list, i)));
	if (n > 8)
		fprintf(f, " and %zu more", n - 8);
}

void status_print_pf(FILE *f, const json_t *pf)
{
	const json_t *c = json_object_get(pf, "connections"), *v;
	size_t i;

	fprintf(f, "%s: %s, process %lld, %s (%s), link %s\n", str(pf, "name"),
		str(pf, "state"), num(pf, "pid"), str(pf, "pf"),
		str(pf, "generation"), yes(pf, "link") ? "up" : "down");
	fprintf(f,
		"connections: %lld live, %lld refused, %lld ended for "
		"nonsense, %lld for not reading\n",
		num(c, "live"), num(c, "refused"), num(c, "bad"),
		num(c, "slow"));
	json_array_foreach (json_object_get(pf, "vfs"), i, v) {
		fprintf(f, "\nVF %lld  %s, %s%s", num(v, "vf"),
			yes(v, "claimed") ? str(v, "who") : "free",
			str(v, "mac"),
			yes(v, "clear_to_send") ? "" : ", not clear to send");
		print_vlans(f, json_object_get(v, "vlans"));
		fprintf(f, ", %lld multicasts, frames to %lld\n",
			num(v, "multicast"), num(v, "max_frame"));
		fprintf(f, "    %lld requests, %lld refused%s%s\n",
			num(v, "requests"), num(v, "refused"),
			*str(v, "last_refusal") ? "; last: " : "",
			str(v, "last_refusal"));
	}
}

/* ---- traces ---- */

struct line {
	const json_t *ev;
	const char *who;
	uint64_t ns, seq;
};

static int by_time(const void *a, const void *b)
{
	const struct line *x = a, *y = b;

	if (x->ns != y->ns)
		return x->ns < y->ns ? -1 : 1;
	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* What events have at an offset; 0 is none for all but accesses. */
static const char *reg_name(const char *what, uint32_t off, char *buf,
			    size_t size)
{
	static const struct {
		uint32_t off;
		const char *name;
	} regs[] = {
		{ IGBVF_V2PMAILBOX, "V2PMAILBOX" },
		{ IGBVF_STATUS, "STATUS" },
		{ IGBVF_IVAR_MISC, "IVAR_MISC" },
		{ IGB_MBVFICR, "MBVFICR" },
		{ IGB_VFLRE, "VFLRE" },
		{ IGB_ICR, "ICR" },
	};

	if (!off)
		return strcmp(what, "write") ? "" : "CTRL";
	for (size_t i = 0; i < ARRAY_SIZE(regs); i++)
		if (regs[i].off == off)
			return regs[i].name;
	if (off >= IGBVF_VMBMEM && off < IGBVF_VMBMEM + 4 * MBX_WORDS)
		snprintf(buf, size, "VMBMEM[%u]", (off - IGBVF_VMBMEM) / 4);
	else
		snprintf(buf, size, "0x%x", off);
	return buf;
}

static void print_bits(FILE *f, uint64_t val)
{
	static const char *const bits[] = { "REQ",   "ACK",   "VFU",  "PFU",
					    "PFSTS", "PFACK", "RSTI", "RSTD" };

	for (size_t i = 0; i < ARRAY_SIZE(bits); i++)
		if (val >> i & 1)
			fprintf(f, " %s", bits[i]);
}

static void print_word(FILE *f, uint32_t w)
{
	const struct mbx_msg m = { .w = { w & ~MBX_FLAGS, 1522 },
				   .len = MBX_WORDS };
	struct mbx_req r;

	/* By type and info alone: the values are not here. */
	mbx_decode(&m, &r);
	if ((w & MBX_TYPE) == MBX_PF_CONTROL)
		fputs(" control", f);
	else if (r.op != MBX_OP_NONE)
		fprintf(f, " %s", mbx_op_name(r.op));
	fprintf(f, "%s%s%s", w & MBX_ACK ? " ACK" : "",
		w & MBX_NACK ? " NACK" : "", w & MBX_CTS ? " CTS" : "");
}

static void print_meaning(FILE *f, const char *what, uint32_t off, uint64_t val)
{
	static const char *const words[] = { "pf-verdict", "drop" };

	if (!strcmp(what, "callback") || !strcmp(what, "pf-callback"))
		fprintf(f, " %s", pf_event_name((enum pf_event_kind)val));
	if (off == IGBVF_V2PMAILBOX)
		print_bits(f, val);
	else if (off == IGBVF_VMBMEM)
		print_word(f, (uint32_t)val);
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (!strcmp(what, words[i]))
			print_word(f, (uint32_t)val);
}

static void print_line(FILE *f, const struct line *l, uint64_t before)
{
	const char *what = str(l->ev, "what");
	uint32_t off = (uint32_t)num(l->ev, "off");
	uint64_t val = (uint64_t)num(l->ev, "val");
	uint64_t gap = before ? l->ns - before : 0;
	char buf[16];

	fprintf(f, "%6" PRIu64 ".%06" PRIu64 " %9" PRIu64 ".%01" PRIu64 " ",
		l->ns / 1000000000, l->ns / 1000 % 1000000, gap / 1000,
		gap / 100 % 10);
	fprintf(f, "%-10s %2lld %-12s %-9s %-10s %8" PRIx64, l->who,
		num(l->ev, "vf"), what, str(l->ev, "state"),
		reg_name(what, off, buf, sizeof(buf)), val);
	print_meaning(f, what, off, val);
	fputc('\n', f);
}

void status_print_trace(FILE *f, const json_t *const *trace,
			const char *const *who, unsigned int n)
{
	size_t total = 0, k = 0, i;
	struct line *l;
	json_t *ev;

	for (unsigned int t = 0; t < n; t++)
		total += json_array_size(json_object_get(trace[t], "events"));
	l = calloc(total + 1, sizeof(*l));
	if (!l)
		return;
	for (unsigned int t = 0; t < n; t++) {
		if (num(trace[t], "lost"))
			fprintf(f, "%s: %lld events before these are gone\n",
				who[t], num(trace[t], "lost"));
		json_array_foreach (json_object_get(trace[t], "events"), i, ev)
			l[k++] = (struct line){ ev, who[t],
						(uint64_t)num(ev, "ns"),
						(uint64_t)num(ev, "seq") };
	}
	qsort(l, total, sizeof(*l), by_time);
	fputs("       TIME s        +us NAME       VF EVENT        STATE     "
	      "REGISTER      VALUE\n",
	      f);
	for (k = 0; k < total; k++)
		print_line(f, &l[k], k ? l[k - 1].ns : 0);
	free(l);
}
