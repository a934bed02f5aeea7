/*
 * Structs on the wire by a list of fields.
 */
#include "vmm/fields.h"

#include <string.h>

void put_fields(struct wire_out *o, const void *s, const struct field *f,
		size_t nf)
{
	for (size_t i = 0; i < nf; i++)
		for (unsigned int k = 0; k < f[i].n; k++) {
			uint64_t v = 0;

			memcpy(&v, (const char *)s + f[i].off + k * f[i].size,
			       f[i].size);
			switch (f[i].size) {
			case 1: put_u8(o, (uint8_t)v); break;
			case 2: put_u16(o, (uint16_t)v); break;
			case 4: put_u32(o, (uint32_t)v); break;
			default: put_u64(o, v); break;
			}
		}
}

void get_fields(struct wire_in *in, void *s, const struct field *f, size_t nf)
{
	for (size_t i = 0; i < nf; i++)
		for (unsigned int k = 0; k < f[i].n; k++) {
			uint64_t v;

			switch (f[i].size) {
			case 1: v = get_u8(in); break;
			case 2: v = get_u16(in); break;
			case 4: v = get_u32(in); break;
			default: v = get_u64(in); break;
			}
			memcpy((char *)s + f[i].off + k * f[i].size, &v,
			       f[i].size);
		}
}
