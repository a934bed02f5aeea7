#include "base/wire.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

void wire_out_init(struct wire_out *o, void *buf, size_t size)
{
	o->start = o->p = buf;
	o->end = o->p + size;
	o->err = 0;
}

void wire_in_init(struct wire_in *in, const void *buf, size_t size)
{
	in->p = buf;
	in->end = in->p + size;
	in->err = 0;
}

void put_bytes(struct wire_out *o, const void *p, size_t n)
{
	if (o->err)
		return;
	if ((size_t)(o->end - o->p) < n) {
		o->err = -ENOSPC;
		return;
	}
	if (n)
		memcpy(o->p, p, n);
	o->p += n;
}

void put_u8(struct wire_out *o, uint8_t v)
{
	put_bytes(o, &v, sizeof(v));
}

void put_u16(struct wire_out *o, uint16_t v)
{
	v = htole16(v);
	put_bytes(o, &v, sizeof(v));
}

void put_u32(struct wire_out *o, uint32_t v)
{
	v = htole32(v);
	put_bytes(o, &v, sizeof(v));
}

void put_u64(struct wire_out *o, uint64_t v)
{
	v = htole64(v);
	put_bytes(o, &v, sizeof(v));
}

void put_str(struct wire_out *o, const char *s)
{
	size_t n = strlen(s);

	if (n > UINT16_MAX && !o->err)
		o->err = -ENOSPC;
	put_u16(o, (uint16_t)n);
	put_bytes(o, s, n);
}

size_t put_gap_u32(struct wire_out *o)
{
	size_t at = wire_used(o);

	put_u32(o, 0);
	return at;
}

void wire_patch_u32(struct wire_out *o, size_t at, uint32_t v)
{
	if (o->err)
		return;
	v = htole32(v);
	memcpy(o->start + at, &v, sizeof(v));
}

size_t wire_used(const struct wire_out *o)
{
	return (size_t)(o->p - o->start);
}

void wire_fail(struct wire_in *in, int err)
{
	if (!in->err)
		in->err = err;
}

size_t wire_left(const struct wire_in *in)
{
	return in->err ? 0 : (size_t)(in->end - in->p);
}

const void *get_view(struct wire_in *in, size_t n)
{
	const void *p = in->p;

	if (in->err)
		return NULL;
	if ((size_t)(in->end - in->p) < n) {
		in->err = -EBADMSG;
		return NULL;
	}
	in->p += n;
	return p;
}

void get_bytes(struct wire_in *in, void *p, size_t n)
{
	const void *from = get_view(in, n);

	if (!n)
		return;
	if (from)
		memcpy(p, from, n);
	else
		memset(p, 0, n);
}

uint8_t get_u8(struct wire_in *in)
{
	uint8_t v;

	get_bytes(in, &v, sizeof(v));
	return v;
}

uint16_t get_u16(struct wire_in *in)
{
	uint16_t v;

	get_bytes(in, &v, sizeof(v));
	return le16toh(v);
}

uint32_t get_u32(struct wire_in *in)
{
	uint32_t v;

	get_bytes(in, &v, sizeof(v));
	return le32toh(v);
}

uint64_t get_u64(struct wire_in *in)
{
	uint64_t v;

	get_bytes(in, &v, sizeof(v));
	return le64toh(v);
}

void get_str(struct wire_in *in, char *s, size_t size)
{
	size_t n = get_u16(in);
	const void *from = get_view(in, n);

	s[0] = '\0';
	if (!from)
		return;
	if (n >= size || memchr(from, '\0', n)) {
		wire_fail(in, -EBADMSG);
		return;
	}
	memcpy(s, from, n);
	s[n] = '\0';
}

void get_text(struct wire_in *in, char *s, size_t size)
{
	get_str(in, s, size);
	for (; *s; s++)
		if (*s < ' ' || *s > '~')
			*s = '?';
}

int wire_done(const struct wire_in *in)
{
	if (in->err)
		return in->err;
	return in->p == in->end ? 0 : -EBADMSG;
}
