/*
 * A struct on the wire by a list of its fields: one list for both ways.
 *
 * Structs of KVM's interface go out member by member, never as memory: what
 * a member means is fixed by the interface, how a struct is padded and what
 * a later kernel appends is not.
 */
#ifndef VMM_FIELDS_H
#define VMM_FIELDS_H

#include <stddef.h>
#include <stdint.h>

#include "base/wire.h"

struct field {
	uint16_t off;
	uint8_t size; /* 1, 2, 4 or 8 */
	uint8_t n;    /* members of an array, else 1 */
};

#define FIELD(type, m)                                                        \
	{                                                                     \
		offsetof(struct type, m), sizeof(((struct type *)NULL)->m), 1 \
	}
#define FIELDS(type, m, count)                                              \
	{                                                                   \
		offsetof(struct type, m),                                   \
			sizeof(((struct type *)NULL)->m) / (count), (count) \
	}

void put_fields(struct wire_out *o, const void *s, const struct field *f,
		size_t nf);
void get_fields(struct wire_in *in, void *s, const struct field *f, size_t nf);

#define PUT_FIELDS(o, s, f)  put_fields((o), (s), (f), ARRAY_SIZE(f))
#define GET_FIELDS(in, s, f) get_fields((in), (s), (f), ARRAY_SIZE(f))

#endif
