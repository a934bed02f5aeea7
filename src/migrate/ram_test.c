#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/bitmap.h"
#include "base/util.h"
#include "migrate/ram.h"

#define SIZE (4 * RAM_CHUNK_SIZE)
#define GPA  0x100000000ull

static uint8_t *src, *dst;
static uint64_t *written[1];
static struct host_ram ram = { .gpa = { GPA }, .size = SIZE };
static struct ram_target target = { .ram = &ram, .written = written, .n = 1 };

static int setup(void **state)
{
	src = aligned_alloc(PAGE_SIZE, SIZE);
	dst = aligned_alloc(PAGE_SIZE, SIZE);
	memset(src, 0, SIZE);
	memset(dst, 0, SIZE);
	ram.backing = dst;
	written[0] = bitmap_alloc(SIZE / PAGE_SIZE);
	return 0;
}

static int teardown(void **state)
{
	free(src);
	free(dst);
	free(written[0]);
	return 0;
}

static void fill(size_t page, int seed)
{
	srandom((unsigned int)seed);
	for (size_t i = 0; i < PAGE_SIZE; i++)
		src[page * PAGE_SIZE + i] = (uint8_t)(random() & 0x1f);
}

static void chunks_arrive(int level)
{
	struct ram_codec *c;
	unsigned int zeros, pages;
	uint8_t *p;
	size_t n;

	assert_int_equal(ram_codec_create(&c, level), 0);
	for (size_t page = 0; page < 64; page += 3)
		fill(64 + page, (int)page);
	ram_encode(c, GPA + RAM_CHUNK_SIZE, src + RAM_CHUNK_SIZE, ~0ull, 24, &p,
		   &n, &zeros);
	assert_int_equal(zeros, 64 - 22);
	if (level)
		assert_true(n < 22 * PAGE_SIZE);
	else
		assert_int_equal(n, RAM_HEADER + 22 * PAGE_SIZE);
	assert_int_equal(ram_decode(c, &target, p, n, &pages, NULL), 0);
	assert_int_equal(pages, 64);
	assert_memory_equal(src, dst, SIZE);
	assert_int_equal(bitmap_count(written[0], SIZE / PAGE_SIZE), 22);

	/* A page that becomes zero again is zeroed there as well. */
	memset(src + RAM_CHUNK_SIZE, 0, PAGE_SIZE);
	ram_encode(c, GPA + RAM_CHUNK_SIZE, src + RAM_CHUNK_SIZE, 1, 0, &p, &n,
		   &zeros);
	assert_int_equal(n, RAM_HEADER);
	assert_int_equal(ram_decode(c, &target, p, n, &pages, NULL), 0);
	assert_memory_equal(src, dst, SIZE);
	ram_codec_destroy(c);
}

static void plain(void **state)
{
	chunks_arrive(0);
}

static void compressed(void **state)
{
	chunks_arrive(1);
}

/* Two regions of one file, of which the second has no page yet. */
static void sparse_memory_is_written_by_its_file(int level)
{
	struct host_ram r[2] = {
		{ .gpa = { 0 }, .size = SIZE / 2, .page = PAGE_SIZE },
		{ .gpa = { GPA },
		  .size = SIZE / 2,
		  .page = PAGE_SIZE,
		  .fd_offset = SIZE / 2 }
	};
	uint64_t *map[2] = { bitmap_alloc(64 * 2), bitmap_alloc(64 * 2) };
	struct ram_target t = {
		.ram = r, .written = map, .n = 2, .by_file = 2
	};
	struct ram_stretch to[RAM_CHUNK_PAGES];
	int fd = memfd_create("ram-test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	unsigned int zeros, pages;
	struct ram_codec *c;
	struct stat before, after;
	uint8_t *p, *view;
	size_t n;

	assert_int_equal(ftruncate(fd, SIZE), 0);
	view = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(view, MAP_FAILED);
	memset(view, 0, SIZE / 2);
	r[0].fd = r[1].fd = fd;
	r[0].backing = view;
	r[1].backing = view + SIZE / 2;
	assert_false(ram_is_sparse(&r[0]));
	assert_true(ram_is_sparse(&r[1]));
	r[1].page = 2ul << 20;
	assert_false(ram_is_sparse(&r[1]));

	ram_codec_create(&c, level);
	fill(0, 1);
	fill(1, 2);
	fill(9, 3);
	ram_encode(c, GPA + RAM_CHUNK_SIZE, src, 0x3ff, 0, &p, &n, &zeros);
	assert_int_equal(ram_place(&t, p, n, to, &pages, NULL), 0);
	assert_int_equal(pages, 0);
	fstat(fd, &before);
	assert_int_equal(ram_decode(c, &t, p, n, &pages, NULL), 0);
	fstat(fd, &after);
	assert_int_equal(pages, 10);
	assert_int_equal(after.st_blocks - before.st_blocks, 3 * 8);
	assert_int_equal(bitmap_count(map[1], 128), 3);
	assert_memory_equal(view + SIZE * 3 / 4, src, 10 * PAGE_SIZE);

	/* A file that takes no more is a failure, not a hole. */
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
	assert_int_equal(ram_decode(c, &t, p, n, &pages, NULL), -EPERM);
	ram_codec_destroy(c);
	munmap(view, SIZE);
	close(fd);
	free(map[0]);
	free(map[1]);
}

static void sparse_plain(void **state)
{
	sparse_memory_is_written_by_its_file(0);
}

static void sparse_compressed(void **state)
{
	sparse_memory_is_written_by_its_file(1);
}

static void incompressible_pages_travel_plain(void **state)
{
	struct ram_codec *c;
	unsigned int zeros, pages;
	uint8_t *p;
	size_t n;

	for (size_t i = 0; i < RAM_CHUNK_SIZE; i++)
		src[i] = (uint8_t)random();
	ram_codec_create(&c, 3);
	ram_encode(c, GPA, src, ~0ull, 0, &p, &n, &zeros);
	assert_int_equal(n, RAM_HEADER + RAM_CHUNK_SIZE);
	assert_int_equal(ram_decode(c, &target, p, n, &pages, NULL), 0);
	assert_memory_equal(src, dst, SIZE);
	ram_codec_destroy(c);
}

static void hostile(const uint8_t *p, size_t n, size_t at, uint64_t v,
		    size_t width)
{
	struct ram_stretch to[RAM_CHUNK_PAGES];
	uint8_t *bad = malloc(n);
	struct ram_codec *c;
	unsigned int pages;

	memcpy(bad, p, n);
	memcpy(bad + at, &v, width);
	ram_codec_create(&c, 0);
	assert_int_equal(ram_decode(c, &target, bad, n, &pages, NULL),
			 -EBADMSG);
	/* Without a copy the same is refused, but for what is compressed. */
	if (at != 24)
		assert_int_equal(ram_place(&target, bad, n, to, &pages, NULL),
				 -EBADMSG);
	ram_codec_destroy(c);
	free(bad);
}

static void hostile_sections_touch_nothing(void **state)
{
	struct ram_codec *c;
	unsigned int zeros, pages;
	uint8_t *p;
	size_t n;

	fill(0, 1);
	ram_codec_create(&c, 0);
	ram_encode(c, GPA, src, 3, 0, &p, &n, &zeros);
	hostile(p, n, 0, GPA + SIZE, 8); /* beyond the region */
	hostile(p, n, 0, GPA - RAM_CHUNK_SIZE, 8);
	hostile(p, n, 0, GPA + 4096, 8); /* not a chunk */
	hostile(p, n, 0, UINT64_MAX & ~(uint64_t)(RAM_CHUNK_SIZE - 1), 8);
	hostile(p, n, 8, 0, 8);		/* no page at all */
	hostile(p, n, 8, 7, 8);		/* one more than is there */
	hostile(p, n, 16, 4, 8);	/* zero but not present */
	hostile(p, n, 16, 3, 8);	/* all zero, yet bytes follow */
	hostile(p, n, 24, RAM_ZSTD, 4); /* not a frame */
	hostile(p, n, 24, 9, 4);
	hostile(p, n, 28, 1, 4);
	for (size_t cut = 0; cut < n; cut += 97)
		assert_int_equal(ram_decode(c, &target, p, cut, &pages, NULL),
				 -EBADMSG);
	for (size_t i = 0; i < SIZE; i++)
		assert_int_equal(dst[i], 0);
	ram_codec_destroy(c);
}

static void pages_find_their_place_without_a_copy(void **state)
{
	struct ram_stretch to[RAM_CHUNK_PAGES];
	struct ram_codec *c;
	unsigned int zeros, pages;
	uint8_t *p;
	size_t n;

	fill(0, 1);
	fill(1, 2);
	fill(9, 3);
	ram_codec_create(&c, 0);
	ram_encode(c, GPA, src, 0x3ff, 0, &p, &n, &zeros);
	assert_int_equal(ram_place(&target, p, n, to, &pages, NULL), 2);
	assert_int_equal(pages, 10);
	assert_ptr_equal(to[0].p, dst);
	assert_int_equal(to[0].len, 2 * PAGE_SIZE);
	assert_ptr_equal(to[1].p, dst + 9 * PAGE_SIZE);
	assert_int_equal(to[1].len, PAGE_SIZE);
	assert_int_equal(bitmap_count(written[0], SIZE / PAGE_SIZE), 3);
	assert_int_equal(ram_place(&target, p, n + 1, to, &pages, NULL),
			 -EBADMSG);
	ram_codec_destroy(c);

	ram_codec_create(&c, 1);
	ram_encode(c, GPA, src, 0x3ff, 0, &p, &n, &zeros);
	assert_int_equal(ram_place(&target, p, n, to, &pages, NULL), 0);
	assert_int_equal(pages, 0);
	ram_codec_destroy(c);
}

/* What was sent before, and what of it need not have been sent again. */
static void pages_sent_again_are_compared(void **state)
{
	uint64_t sums[RAM_CHUNK_PAGES] = { 0 };
	struct ram_again again = { .sums = sums };
	struct ram_codec *c;
	unsigned int zeros;
	uint8_t *p;
	size_t n;

	fill(0, 1);
	fill(1, 2);
	ram_codec_create(&c, 0);
	ram_codec_compare(c, &again);
	ram_encode(c, GPA, src, 0x7, 0, &p, &n, &zeros); /* 2 is zero */
	assert_int_equal(again.pages, 0);
	src[PAGE_SIZE + 99] ^= 1;
	ram_encode(c, GPA, src, 0xf, 0, &p, &n, &zeros); /* 3 is new */
	assert_int_equal(again.pages, 3);
	assert_int_equal(again.same, 2);
	/* The copy sent last counts, not the first. */
	ram_encode(c, GPA, src, 0x2, 0, &p, &n, &zeros);
	assert_int_equal(again.pages, 4);
	assert_int_equal(again.same, 3);
	ram_codec_compare(c, NULL);
	ram_encode(c, GPA, src, 0x2, 0, &p, &n, &zeros);
	assert_int_equal(again.pages, 4);
	ram_codec_destroy(c);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(plain),
		T(pages_find_their_place_without_a_copy),
		T(compressed),
		T(sparse_plain),
		T(sparse_compressed),
		T(incompressible_pages_travel_plain),
		T(hostile_sections_touch_nothing),
		T(pages_sent_again_are_compared),
	};
#undef T

	return cmocka_run_group_tests(tests, NULL, NULL);
}
