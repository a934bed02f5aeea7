#include "igb/pf_policy.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

/* Members of a policy object; each parses its value into a VF's policy. */
struct member {
	const char *name;
	const char *wants; /* for the error message */
	int (*parse)(struct pf_vf_policy *p, const json_t *v);
};

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* "02:00:00:00:00:01", nothing else. */
static int parse_addr(const char *s, uint8_t *mac)
{
	uint8_t out[6];

	if (strlen(s) != 17)
		return -EINVAL;
	for (unsigned int i = 0; i < 6; i++) {
		int hi = hex(s[3 * i]), lo = hex(s[3 * i + 1]);

		if (hi < 0 || lo < 0 || (i < 5 && s[3 * i + 2] != ':'))
			return -EINVAL;
		out[i] = (uint8_t)(hi << 4 | lo);
	}
	if (!mbx_mac_ok(out))
		return -EINVAL;
	memcpy(mac, out, 6);
	return 0;
}

static int parse_mac(struct pf_vf_policy *p, const json_t *v)
{
	const char *s = json_string_value(v);

	if (!s)
		return -EINVAL;
	p->guest_mac = !strcmp(s, "guest");
	memset(p->mac, 0, 6);
	return p->guest_mac ? 0 : parse_addr(s, p->mac);
}

static int parse_initial_mac(struct pf_vf_policy *p, const json_t *v)
{
	const char *s = json_string_value(v);

	/* Meant beside "mac": "guest"; a fixed one needs no other. */
	return s && p->guest_mac ? parse_addr(s, p->mac) : -EINVAL;
}

static int parse_vlans(struct pf_vf_policy *p, const json_t *v)
{
	uint64_t map[MBX_VLAN_WORDS] = { 0 };
	size_t n = json_array_size(v);

	if (json_is_string(v) && !strcmp(json_string_value(v), "any")) {
		memset(p->vlan, 0xff, sizeof(p->vlan));
		return 0;
	}
	if (!json_is_array(v))
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		const json_t *id = json_array_get(v, i);
		json_int_t vid = json_integer_value(id);

		if (!json_is_integer(id) || vid < 0 || vid > 4094)
			return -EINVAL;
		map[vid / 64] |= 1ull << vid % 64;
	}
	memcpy(p->vlan, map, sizeof(map));
	return 0;
}

static int parse_number(const json_t *v, json_int_t lo, json_int_t hi)
{
	json_int_t n = json_integer_value(v);

	return json_is_integer(v) && n >= lo && n <= hi ? (int)n : -EINVAL;
}

static int parse_multicast(struct pf_vf_policy *p, const json_t *v)
{
	int n = parse_number(v, 0, MBX_HASHES_MAX);

	if (n < 0)
		return n;
	p->multicast = (uint8_t)n;
	return 0;
}

static int parse_filters(struct pf_vf_policy *p, const json_t *v)
{
	int n = parse_number(v, 0, MBX_FILTERS);

	if (n < 0)
		return n;
	p->filters = (uint8_t)n;
	return 0;
}

static int parse_promisc(struct pf_vf_policy *p, const json_t *v)
{
	static const struct {
		const char *name;
		uint8_t bits;
	} choices[] = {
		{ "none", 0 },
		{ "multicast", MBX_PROMISC_MULTICAST },
		{ "all", MBX_PROMISC_MULTICAST | MBX_PROMISC_UNICAST },
	};
	const char *s = json_string_value(v);

	for (size_t i = 0; s && i < ARRAY_SIZE(choices); i++)
		if (!strcmp(s, choices[i].name)) {
			p->promisc = choices[i].bits;
			return 0;
		}
	return -EINVAL;
}

static int parse_spoof(struct pf_vf_policy *p, const json_t *v)
{
	if (!json_is_boolean(v))
		return -EINVAL;
	p->spoof_check = json_is_true(v);
	return 0;
}

static int parse_mtu(struct pf_vf_policy *p, const json_t *v)
{
	int n = parse_number(v, MBX_FRAME_MIN,
			     MBX_FRAME_MAX - MBX_FRAME_OVERHEAD);

	if (n < 0)
		return n;
	p->frame = (uint16_t)(n + MBX_FRAME_OVERHEAD);
	return 0;
}

static const struct member members[] = {
	{ "mac", "\"guest\" or a unicast address", parse_mac },
	{ "initial-mac", "a unicast address, beside \"mac\": \"guest\"",
	  parse_initial_mac },
	{ "vlans", "\"any\" or a list of ids 0..4094", parse_vlans },
	{ "multicast", "a number 0..30", parse_multicast },
	{ "mac-filters", "a number 0..4", parse_filters },
	{ "promiscuous", "\"none\", \"multicast\" or \"all\"", parse_promisc },
	{ "spoof-check", "true or false", parse_spoof },
	{ "mtu", "a number 68..9706", parse_mtu },
};

void pf_policy_default(struct pf_policy *p)
{
	*p = (struct pf_policy){ 0 };
	for (unsigned int i = 0; i < PF_VFS_MAX; i++) {
		struct pf_vf_policy *v = &p->vf[i];

		v->guest_mac = true;
		memset(v->vlan, 0xff, sizeof(v->vlan));
		v->multicast = MBX_HASHES_MAX;
		v->filters = MBX_FILTERS;
		v->spoof_check = true;
		v->frame = MBX_FRAME_DEFAULT;
	}
}

/* What is parsed, for errors that say where. */
struct source {
	const char *text;
	const char *path[3]; /* of the object: "default", or "vf" and "1" */
	unsigned int depth;
};

/* Behind the closing quote of the string that begins at 'p'. */
static const char *skip_string(const char *p)
{
	for (p++; *p && *p != '"'; p++)
		if (*p == '\\' && p[1])
			p++;
	return *p ? p + 1 : p;
}

/*
 * The line of member 'key' of the object, NULL: of the object; 0: unknown.
 * The library keeps no places, and has said already that this is JSON.
 */
static unsigned int line_of(const struct source *s, const char *key)
{
	unsigned int line = 1, depth = 0, found = 0;

	for (const char *p = s->text, *end; *p; p = end) {
		const char *want = found < s->depth ? s->path[found] : key;

		end = p + 1;
		line += *p == '\n';
		depth += *p == '{' || *p == '[';
		depth -= *p == '}' || *p == ']';
		if (*p != '"')
			continue;
		end = skip_string(p);
		/* A value, or a member of something else. */
		if (!want || depth != found + 1 ||
		    end[strspn(end, " \t\n\r")] != ':' ||
		    strncmp(p + 1, want, strlen(want)) != 0 ||
		    p + strlen(want) + 2 != end)
			continue;
		found++;
		if (found == s->depth + (key != NULL))
			return line;
	}
	return 0;
}

static int wrong(struct err *e, const struct source *s, const char *key,
		 const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static int wrong(struct err *e, const struct source *s, const char *key,
		 const char *fmt, ...)
{
	unsigned int line = line_of(s, key);
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return line ? err_set(e, -EINVAL, "line %u: %s", line, text)
		    : err_set(e, -EINVAL, "%s", text);
}

/* In the table's order, so that "initial-mac" comes after "mac". */
static int parse_object(struct pf_vf_policy *p, const json_t *o,
			const struct source *s, struct err *e)
{
	const char *where = s->path[s->depth - 1], *key;
	json_t *v;

	if (!json_is_object(o))
		return wrong(e, s, NULL, "\"%s\" is not an object", where);
	json_object_foreach ((json_t *)o, key, v) {
		size_t i = 0;

		while (i < ARRAY_SIZE(members) && strcmp(members[i].name, key))
			i++;
		if (i == ARRAY_SIZE(members))
			return wrong(e, s, key,
				     "\"%s\" has a member \"%.40s\" that no "
				     "policy knows; see docs/pf-policy.md",
				     where, key);
	}
	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		v = json_object_get(o, members[i].name);
		if (v && members[i].parse(p, v) < 0)
			return wrong(e, s, members[i].name,
				     "\"%s\": \"%s\" must be %s", where,
				     members[i].name, members[i].wants);
	}
	return 0;
}

static int parse_root(struct pf_policy *p, const json_t *root, const char *text,
		      struct err *e)
{
	struct source s = { .text = text };
	const char *key;
	json_t *v, *d = json_object_get(root, "default");

	if (!json_is_object(root))
		return err_set(e, -EINVAL, "a policy is one JSON object");
	json_object_foreach ((json_t *)root, key, v)
		if (strcmp(key, "default") && strcmp(key, "vf"))
			return wrong(e, &s, key,
				     "member \"%.40s\" is unknown; a policy "
				     "has \"default\" and \"vf\"",
				     key);
	s.path[0] = "default";
	s.depth = 1;
	for (unsigned int i = 0; d && i < PF_VFS_MAX; i++)
		if (parse_object(&p->vf[i], d, &s, e) < 0)
			return -EINVAL;

	s.path[0] = "vf";
	d = json_object_get(root, "vf");
	if (d && !json_is_object(d))
		return wrong(e, &s, NULL, "\"vf\" is not an object");
	json_object_foreach (d, key, v) {
		if (key[0] < '0' || key[0] >= '0' + PF_VFS_MAX || key[1])
			return wrong(e, &s, key,
				     "\"vf\" has \"%.40s\"; VFs are \"0\" to "
				     "\"%d\"",
				     key, PF_VFS_MAX - 1);
		s.path[1] = key;
		s.depth = 2;
		if (parse_object(&p->vf[key[0] - '0'], v, &s, e) < 0)
			return -EINVAL;
		s.depth = 1;
	}

	for (unsigned int i = 0; i < PF_VFS_MAX; i++)
		for (unsigned int k = 0; k < i; k++)
			if (mbx_mac_ok(p->vf[i].mac) &&
			    !memcmp(p->vf[i].mac, p->vf[k].mac, 6))
				return err_set(e, -EEXIST,
					       "VFs %u and %u have the same "
					       "MAC; give each its own",
					       k, i);
	return 0;
}

int pf_policy_parse(struct pf_policy *p, const char *text, struct err *e)
{
	struct pf_policy n;
	json_error_t je;
	json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &je);
	int ret;

	if (!root)
		return err_set(e, -EINVAL, "line %d: %s", je.line, je.text);
	pf_policy_default(&n);
	ret = parse_root(&n, root, text, e);
	json_decref(root);
	if (ret == 0)
		*p = n;
	return ret;
}

#define POLICY_SIZE_MAX (1u << 16)

int pf_policy_load(struct pf_policy *p, const char *path, struct err *e)
{
	FILE *f = fopen(path, "re");
	char *text;
	size_t n;
	int ret;

	if (!f)
		return err_sys(e, -errno, "policy %s", path);
	text = malloc(POLICY_SIZE_MAX + 1);
	if (!text) {
		ret = -ENOMEM;
		goto close;
	}
	n = fread(text, 1, POLICY_SIZE_MAX + 1, f);
	if (ferror(f)) {
		ret = err_sys(e, -EIO, "policy %s", path);
		goto free;
	}
	if (n > POLICY_SIZE_MAX) {
		ret = err_set(e, -EFBIG, "policy %s is larger than %u bytes",
			      path, POLICY_SIZE_MAX);
		goto free;
	}
	text[n] = 0;
	/* What is behind one would not be read: a half policy is none. */
	if (strlen(text) != n) {
		ret = err_set(e, -EINVAL, "policy %s has a zero byte", path);
		goto free;
	}
	ret = pf_policy_parse(p, text, e);
	if (ret < 0)
		err_prefix(e, "policy %s", path);
free:
	free(text);
close:
	fclose(f);
	return ret;
}

static bool zero(const uint8_t *mac)
{
	static const uint8_t none[6];

	return !memcmp(mac, none, 6);
}

const char *pf_policy_refuses(const struct pf_vf_policy *p,
			      const struct mbx_state *s,
			      const struct mbx_req *r)
{
	switch (r->op) {
	case MBX_OP_RESET:
	case MBX_OP_MAC_CLEAR: return NULL;
	case MBX_OP_SET_MAC:
		/* The one it has is no change, as ixgbe sees it too. */
		return p->guest_mac || !memcmp(r->mac, p->mac, 6)
			       ? NULL
			       : "the MAC is fixed";
	case MBX_OP_MAC_ADD:
		if (!p->guest_mac)
			return "the MAC is fixed";
		return s->nfilters < p->filters ? NULL : "too many MAC filters";
	case MBX_OP_MULTICAST:
		return r->nhashes <= p->multicast ? NULL
						  : "too many multicasts";
	case MBX_OP_VLAN:
		/* Leaving a VLAN is always allowed. */
		return !r->add || p->vlan[r->vid / 64] >> r->vid % 64 & 1
			       ? NULL
			       : "the VLAN is not allowed";
	case MBX_OP_LPE:
		return r->frame <= p->frame ? NULL : "frames too large";
	case MBX_OP_PROMISC:
		return r->promisc & ~p->promisc ? "promiscuity not allowed"
						: NULL;
	case MBX_OP_NONE:
	case MBX_OPS: break;
	}
	return "unknown request";
}

const char *pf_policy_refuses_state(const struct pf_vf_policy *p,
				    const struct mbx_state *s)
{
	if (!p->guest_mac && !zero(s->mac) && memcmp(s->mac, p->mac, 6))
		return "the MAC is fixed to another one";
	if (s->nfilters > (p->guest_mac ? p->filters : 0))
		return "too many MAC filters";
	if (s->nhashes > p->multicast)
		return "too many multicasts";
	/* The default is what a VF has that was granted none: it is cut. */
	if (s->frame > p->frame && s->frame != MBX_FRAME_DEFAULT)
		return "frames too large";
	if (s->promisc & ~p->promisc)
		return "promiscuity not allowed";
	for (unsigned int i = 0; i < MBX_VLAN_WORDS; i++)
		if (s->vlan[i] & ~p->vlan[i])
			return "a VLAN is not allowed";
	return NULL;
}
