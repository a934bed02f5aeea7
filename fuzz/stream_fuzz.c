// sources: src/base/bitmap.c src/base/err.c src/base/log.c src/base/sock.c src/base/wire.c src/migrate/chan.c src/migrate/manifest.c src/migrate/place.c src/migrate/plan.c src/migrate/proto.c src/migrate/ram.c src/migrate/stream.c src/migrate/tls.c src/migrate/traffic.c src/migrate/verify.c libs: ssl crypto zstd xxhash
/*
 * What a hostile peer can send, parser by parser: sections, manifest, plan, RAM
 * chunks, digests, and, to a source, what its VFs carried there.
 * receive_fuzz.c and migrate_fuzz.c have the conversation around them.
 * The sum of each section is made right first, or the fuzzer would never get
 * past it.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/util.h"
#include "migrate/manifest.h"
#include "migrate/plan.h"
#include "migrate/proto.h"
#include "migrate/ram.h"
#include "migrate/traffic.h"
#include "migrate/verify.h"

/* plan.c prints plans as JSON; nothing of that is under test here. */
json_t *json_pack(const char *fmt, ...)
{
	return NULL;
}
json_t *json_array(void)
{
	return NULL;
}
int json_array_append_new(json_t *a, json_t *v)
{
	return 0;
}

#define PAGES 256

static const struct stream_rule rules[] = {
	{ SEC_MANIFEST, 1, 1, 0, STREAM_PAYLOAD_MAX, "manifest" },
	{ SEC_PLAN, 1, 1, 0, STREAM_PAYLOAD_MAX, "plan" },
	{ SEC_RAM, 1, 1, 0, RAM_PAYLOAD_MAX, "RAM" },
	{ SEC_DIGEST, 1, 1, 0, STREAM_PAYLOAD_MAX, "digest" },
	{ SEC_TRAFFIC, 1, 1, 0, STREAM_PAYLOAD_MAX, "traffic" },
	{ 0 },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whatever passes makes a rate: no division by zero, nothing negative. */
static void traffic(struct wire_in *in)
{
	struct mig_sample s[MIG_AFTER_MAX];
	int n = mig_after_get(in, s);

	if (n > MIG_AFTER_MAX || (n >= 0 && n < 2))
		abort();
	for (int i = 1; i < n; i++)
		if (s[i].at_ns <= s[i - 1].at_ns ||
		    s[i].frames < s[i - 1].frames ||
		    s[i].bytes < s[i - 1].bytes)
			abort();
}

/* RAM of a file, as a VM's: held to what comes of plain memory. */
static void decode(struct ram_codec *codec, const uint8_t *p, size_t n,
		   int want)
{
	static uint64_t map[BITMAP_WORDS(PAGES)], *maps[1] = { map };
	static struct host_ram ram = { .gpa = { 0x100000000 },
				       .size = PAGES * PAGE_SIZE,
				       .page = PAGE_SIZE,
				       .fd_offset = PAGE_SIZE };
	const struct ram_target target = {
		.ram = &ram, .written = maps, .n = 1, .by_file = 1
	};
	unsigned int pages;

	if (!ram.backing) {
		ram.fd = memfd_create("fuzz-ram", 0);
		if (ram.fd < 0 ||
		    ftruncate(ram.fd, (PAGES + 1) * PAGE_SIZE) < 0)
			abort();
		ram.backing = mmap(NULL, ram.size, PROT_READ | PROT_WRITE,
				   MAP_SHARED, ram.fd, PAGE_SIZE);
		if (ram.backing == MAP_FAILED)
			abort();
	}
	if (ram_decode(codec, &target, p, n, &pages, NULL) != want)
		abort();
	/* Nothing before it, nothing behind it. */
	if (lseek(ram.fd, 0, SEEK_END) != (PAGES + 1) * PAGE_SIZE ||
	    lseek(ram.fd, 0, SEEK_HOLE) != 0)
		abort();
}

/*
 * A chunk that is well formed but for its masks, which the input has: as many
 * bytes as they ask for, at an address near the RAM's.
 */
static size_t chunk(uint8_t *out, const uint8_t *p, size_t n)
{
	uint64_t masks[2] = { 0 }, gpa;
	size_t pages;

	if (n < RAM_HEADER)
		return 0;
	gpa = 0x100000000 + (p[0] % 8) * (uint64_t)RAM_CHUNK_SIZE -
	      2 * RAM_CHUNK_SIZE;
	memcpy(masks, p + 8, sizeof(masks));
	pages = (size_t)__builtin_popcountll(masks[0] & ~masks[1]);
	memset(out, p[1], RAM_HEADER + pages * PAGE_SIZE);
	memcpy(out, &gpa, sizeof(gpa));
	memcpy(out + 8, masks, sizeof(masks));
	memset(out + 24, 0, 8);
	return RAM_HEADER + pages * PAGE_SIZE;
}

static void payload(uint16_t id, const uint8_t *p, size_t n)
{
	static uint8_t ram_bytes[PAGES * PAGE_SIZE], whole[RAM_PAYLOAD_MAX];
	static uint64_t map[BITMAP_WORDS(PAGES)], *maps[1] = { map };
	static struct ram_codec *codec;
	static const struct host_ram ram = { .gpa = { 0x100000000 },
					     .size = sizeof(ram_bytes),
					     .backing = ram_bytes };
	const struct ram_target target = { .ram = &ram,
					   .written = maps,
					   .n = 1 };
	struct verify verify = { 0 };
	struct mig_manifest m;
	struct mig_plan plan;
	struct err e = { 0 };
	unsigned int pages;
	struct wire_in in;

	wire_in_init(&in, p, n);
	switch (id) {
	case SEC_MANIFEST:
		if (mig_manifest_get(&in, &m, &e) == 0 && !mig_manifest_ram(&m))
			abort();
		break;
	case SEC_PLAN: mig_plan_get(&in, &plan, &e); break;
	case SEC_RAM:
		if (!codec && ram_codec_create(&codec, 0) < 0)
			abort();
		decode(codec, p, n,
		       ram_decode(codec, &target, p, n, &pages, &e));
		n = chunk(whole, p, n);
		decode(codec, whole, n,
		       ram_decode(codec, &target, whole, n, &pages, NULL));
		break;
	case SEC_TRAFFIC: traffic(&in); break;
	case SEC_DIGEST: verify_take(&verify, &ram, 1, p, n, &e); break;
	default: abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);
	struct stream_section s;
	const uint8_t *p;
	size_t used, at = 0;

	memcpy(copy, data, size);
	/* Raw first: the header alone must hold against anything. */
	stream_parse(copy, size, rules, &s, &p, &used, NULL);
	while (size - at >= STREAM_HEADER) {
		uint32_t len;
		uint16_t id;

		memcpy(&len, copy + at + 12, 4);
		len = MIN(len, (uint32_t)(size - at - STREAM_HEADER));
		id = copy[at + 4] % 8;
		stream_header(copy + at,
			      id == 1	? SEC_DIGEST
			      : id == 4 ? SEC_TRAFFIC
					: id,
			      1, 1, copy + at + STREAM_HEADER, len);
		if (stream_parse(copy + at, size - at, rules, &s, &p, &used,
				 NULL) == 0)
			payload(s.id, p, s.len);
		at += STREAM_HEADER + len;
	}
	free(copy);
	return 0;
}
