#include "migrate/ram.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxh_x86dispatch.h>
#include <zstd.h>

#include "base/bitmap.h"
#include "base/util.h"
#include "base/wire.h"

#define FRONT_MAX 64

struct ram_codec {
	int level;
	ZSTD_CCtx *cctx;
	ZSTD_DCtx *dctx;
	uint8_t *pages; /* RAM_CHUNK_SIZE, plain */
	uint8_t *out;	/* FRONT_MAX + RAM_PAYLOAD_MAX */
	size_t out_size;
	struct ram_again *again; /* NULL: nobody asks */
};

int ram_codec_create(struct ram_codec **out, int level)
{
	struct ram_codec *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->level = level;
	c->out_size =
		FRONT_MAX + RAM_HEADER + ZSTD_compressBound(RAM_CHUNK_SIZE);
	c->pages = malloc(RAM_CHUNK_SIZE);
	c->out = malloc(c->out_size);
	c->cctx = level ? ZSTD_createCCtx() : NULL;
	c->dctx = ZSTD_createDCtx();
	if (!c->pages || !c->out || !c->dctx || (level && !c->cctx)) {
		ram_codec_destroy(c);
		return -ENOMEM;
	}
	*out = c;
	return 0;
}

void ram_codec_destroy(struct ram_codec *c)
{
	if (!c)
		return;
	ZSTD_freeCCtx(c->cctx);
	ZSTD_freeDCtx(c->dctx);
	free(c->pages);
	free(c->out);
	free(c);
}

static bool is_zero(const void *page)
{
	const uint64_t *p = page;
	uint64_t any = 0;

	/* Most pages that are not zero say so in their first line. */
	if (p[0] | p[1] | p[2] | p[3])
		return false;
	for (size_t i = 0; i < PAGE_SIZE / sizeof(*p) && !any; i += 64)
		for (size_t k = 0; k < 64; k++)
			any |= p[i + k];
	return !any;
}

void ram_codec_compare(struct ram_codec *c, struct ram_again *a)
{
	c->again = a;
}

/* By sums: a copy of all of RAM would be too much for a figure. */
static void compare(struct ram_again *a, unsigned int i, const void *page)
{
	uint64_t sum = XXH3_64bits(page, PAGE_SIZE);

	sum += sum == 0; /* 0 says never */
	a->pages += a->sums[i] != 0;
	a->same += a->sums[i] == sum;
	a->sums[i] = sum;
}

int ram_encode(struct ram_codec *c, uint64_t gpa, const void *src,
	       uint64_t mask, size_t front, uint8_t **payload, size_t *len,
	       unsigned int *zero_pages)
{
	uint8_t *base = c->out + front, *data = base + RAM_HEADER;
	uint8_t *to = c->level ? c->pages : data;
	uint32_t codec = RAM_PLAIN;
	uint64_t zero = 0;
	struct wire_out o;
	size_t n = 0;

	if (front > FRONT_MAX)
		return -EINVAL;
	/*
	 * The guest may be writing: each page is copied once and judged by
	 * the copy, so that sum and mask fit what is sent.
	 */
	for (unsigned int i = 0; i < RAM_CHUNK_PAGES; i++) {
		if (!(mask >> i & 1))
			continue;
		memcpy(to + n, (const uint8_t *)src + i * PAGE_SIZE, PAGE_SIZE);
		if (c->again)
			compare(c->again, i, to + n);
		if (is_zero(to + n))
			zero |= 1ull << i;
		else
			n += PAGE_SIZE;
	}
	if (c->level && n) {
		size_t z =
			ZSTD_compressCCtx(c->cctx, data, ZSTD_compressBound(n),
					  c->pages, n, c->level);

		if (!ZSTD_isError(z) && z < n) {
			codec = RAM_ZSTD;
			n = z;
		} else {
			memcpy(data, c->pages, n);
		}
	}
	wire_out_init(&o, base, RAM_HEADER);
	put_u64(&o, gpa);
	put_u64(&o, mask);
	put_u64(&o, zero);
	put_u32(&o, codec);
	put_u32(&o, 0);
	*payload = base;
	*len = RAM_HEADER + n;
	*zero_pages = (unsigned int)__builtin_popcountll(zero);
	return 0;
}

/* The region that holds every page of 'mask', or NULL. */
static const struct host_ram *region_of(const struct ram_target *t,
					uint64_t gpa, uint64_t mask,
					size_t *idx)
{
	uint64_t first = gpa + (uint64_t)__builtin_ctzll(mask) * PAGE_SIZE;
	uint64_t last =
		gpa + (uint64_t)(63 - __builtin_clzll(mask)) * PAGE_SIZE;

	for (size_t i = 0; i < t->n; i++) {
		const struct host_ram *r = &t->ram[i];

		if (first >= r->gpa.v && last - r->gpa.v < r->size) {
			*idx = i;
			return r;
		}
	}
	return NULL;
}

static int unpack(struct ram_codec *c, struct wire_in *in, uint32_t codec,
		  size_t want, const uint8_t **data, struct err *e)
{
	size_t left = wire_left(in), n;
	const void *p = get_view(in, left);

	if (codec == RAM_PLAIN) {
		*data = p;
		return left == want ? 0
				    : err_set(e, -EBADMSG,
					      "RAM section: %zu bytes for %zu "
					      "of pages",
					      left, want);
	}
	if (codec != RAM_ZSTD)
		return err_set(e, -EBADMSG, "RAM section: codec %u", codec);
	n = ZSTD_decompressDCtx(c->dctx, c->pages, RAM_CHUNK_SIZE, p, left);
	if (ZSTD_isError(n) || n != want)
		return err_set(e, -EBADMSG, "RAM section: bad zstd frame");
	*data = c->pages;
	return 0;
}

struct chunk {
	uint64_t gpa, mask, zero;
	uint32_t codec;
	const struct host_ram *ram;
	size_t idx; /* of ram */
};

static int get_chunk(struct wire_in *in, const struct ram_target *t,
		     struct chunk *k, struct err *e)
{
	k->gpa = get_u64(in);
	k->mask = get_u64(in);
	k->zero = get_u64(in);
	k->codec = get_u32(in);
	if (get_u32(in) || in->err || !k->mask || k->zero & ~k->mask ||
	    k->gpa % RAM_CHUNK_SIZE || k->gpa >= 1ull << 52)
		return err_set(e, -EBADMSG, "RAM section: malformed header");
	k->ram = region_of(t, k->gpa, k->mask, &k->idx);
	if (!k->ram)
		return err_set(e, -EBADMSG,
			       "RAM section: 0x%" PRIx64 " is not RAM here",
			       k->gpa);
	return 0;
}

/*
 * Where each page of a chunk that has bytes belongs, neighbours in one.
 * Zero pages are made so, unless nothing was ever written there.
 */
static unsigned int place(const struct chunk *k, const struct ram_target *t,
			  struct ram_stretch *out)
{
	uint64_t *written = t->written[k->idx];
	unsigned int n = 0;

	for (unsigned int i = 0; i < RAM_CHUNK_PAGES; i++) {
		uint64_t off = k->gpa + i * PAGE_SIZE - k->ram->gpa.v;
		uint8_t *to = (uint8_t *)k->ram->backing + off;

		if (!(k->mask >> i & 1))
			continue;
		if (k->zero >> i & 1) {
			if (bitmap_test(written, off >> PAGE_SHIFT))
				memset(to, 0, PAGE_SIZE);
			continue;
		}
		/* Channels share words of the bitmap, never its bits. */
		bitmap_set_atomic(written, off >> PAGE_SHIFT);
		if (n && (uint8_t *)out[n - 1].p + out[n - 1].len == to)
			out[n - 1].len += PAGE_SIZE;
		else
			out[n++] = (struct ram_stretch){ to, PAGE_SIZE };
	}
	return n;
}

bool ram_is_sparse(const struct host_ram *r)
{
	off_t hole;

	if (r->fd < 0 || r->page != PAGE_SIZE)
		return false;
	hole = lseek(r->fd, (off_t)r->fd_offset, SEEK_HOLE);
	return hole >= 0 && (uint64_t)hole < r->fd_offset + r->size;
}

static bool by_file(const struct ram_target *t, const struct chunk *k)
{
	return t->by_file >> k->idx & 1;
}

static int put_file(const struct host_ram *r, const struct ram_stretch *s,
		    const uint8_t *data, struct err *e)
{
	off_t at =
		(off_t)r->fd_offset + ((uint8_t *)s->p - (uint8_t *)r->backing);
	size_t done = 0;

	while (done < s->len) {
		ssize_t n = pwrite(r->fd, data + done, s->len - done,
				   at + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_sys(e, n ? -errno : -EIO,
				       "writing guest memory");
		done += (size_t)n;
	}
	return 0;
}

static size_t chunk_bytes(const struct chunk *k)
{
	return PAGE_SIZE * (size_t)__builtin_popcountll(k->mask & ~k->zero);
}

int ram_place(const struct ram_target *t, const uint8_t *header, size_t len,
	      struct ram_stretch *out, unsigned int *pages, struct err *e)
{
	struct wire_in in;
	struct chunk k;
	int ret;

	*pages = 0;
	wire_in_init(&in, header, RAM_HEADER);
	ret = get_chunk(&in, t, &k, e);
	if (ret < 0 || k.codec != RAM_PLAIN || by_file(t, &k))
		return ret;
	if (len != RAM_HEADER + chunk_bytes(&k))
		return err_set(e, -EBADMSG,
			       "RAM section: %zu bytes for %zu of pages", len,
			       chunk_bytes(&k));
	*pages = (unsigned int)__builtin_popcountll(k.mask);
	return (int)place(&k, t, out);
}

int ram_decode(struct ram_codec *c, const struct ram_target *t,
	       const uint8_t *payload, size_t len, unsigned int *pages,
	       struct err *e)
{
	struct ram_stretch to[RAM_CHUNK_PAGES];
	const uint8_t *data = NULL;
	unsigned int n;
	struct wire_in in;
	struct chunk k;
	int ret;

	wire_in_init(&in, payload, len);
	ret = get_chunk(&in, t, &k, e);
	if (ret == 0)
		ret = unpack(c, &in, k.codec, chunk_bytes(&k), &data, e);
	if (ret < 0 || !data)
		return ret;
	n = place(&k, t, to);
	for (unsigned int i = 0; i < n && ret == 0; i++) {
		if (by_file(t, &k))
			ret = put_file(k.ram, &to[i], data, e);
		else
			memcpy(to[i].p, data, to[i].len);
		data += to[i].len;
	}
	if (ret < 0)
		return ret;
	*pages = (unsigned int)__builtin_popcountll(k.mask);
	return 0;
}
