/*
 * Bytes on the wire, little-endian, in both directions.
 *
 * The first thing that does not fit sets 'err', and from then on every put
 * is silent and every get returns zero: a codec reads or writes its fields
 * in a straight line and asks once at the end.  Neither side allocates; the
 * buffers are the caller's.
 */
#ifndef BASE_WIRE_H
#define BASE_WIRE_H

#include <stddef.h>
#include <stdint.h>

struct wire_out {
	uint8_t *start, *p, *end;
	int err; /* 0, or -ENOSPC */
};

struct wire_in {
	const uint8_t *p, *end;
	int err; /* 0, or the first failure */
};

void wire_out_init(struct wire_out *o, void *buf, size_t size);
void wire_in_init(struct wire_in *in, const void *buf, size_t size);

void put_u8(struct wire_out *o, uint8_t v);
void put_u16(struct wire_out *o, uint16_t v);
void put_u32(struct wire_out *o, uint32_t v);
void put_u64(struct wire_out *o, uint64_t v);
void put_bytes(struct wire_out *o, const void *p, size_t n);
/* u16 length, then the bytes without their NUL. */
void put_str(struct wire_out *o, const char *s);
/* Four bytes whose value is only known later: set it with wire_patch_u32. */
size_t put_gap_u32(struct wire_out *o);
void wire_patch_u32(struct wire_out *o, size_t at, uint32_t v);
size_t wire_used(const struct wire_out *o);

uint8_t get_u8(struct wire_in *in);
uint16_t get_u16(struct wire_in *in);
uint32_t get_u32(struct wire_in *in);
uint64_t get_u64(struct wire_in *in);
void get_bytes(struct wire_in *in, void *p, size_t n); /* zeroes on error */
/* Fails if the string does not fit 'size' with its NUL, or holds a NUL. */
void get_str(struct wire_in *in, char *s, size_t size);
/*
 * The same, for what a person will read: bytes other than printable ASCII
 * become '?', so that no peer can write to a terminal or spoil a report.
 */
void get_text(struct wire_in *in, char *s, size_t size);
/* A pointer to the next n bytes, or NULL; nothing is copied. */
const void *get_view(struct wire_in *in, size_t n);
size_t wire_left(const struct wire_in *in);

/* Record a failure of meaning; the first one stays. */
void wire_fail(struct wire_in *in, int err);
/* 0 only if nothing failed and nothing is left over (-EBADMSG). */
int wire_done(const struct wire_in *in);

#endif
