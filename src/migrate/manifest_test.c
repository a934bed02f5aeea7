#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "migrate/manifest.h"

static struct mig_manifest sample(void)
{
	struct mig_manifest m = {
		.vm = "web",
		.cpus = 2,
		.cpu_digest = 0x1234,
		.nram = 2,
		.ram = { { 0, 3ull << 30, 4096 },
			 { 4ull << 30, 1ull << 30, 4096 } },
		.ndevices = 2,
		.device = { { .name = "net0",
			      .family = "igb",
			      .type = "82576",
			      .version = 1,
			      .queues = 1,
			      .backing = MIG_HARDWARE },
			    { .name = "net1",
			      .family = "igb",
			      .type = "i350" } },
		.machine = "v1",
	};

	return m;
}

static int there_and_back(const struct mig_manifest *m,
			  struct mig_manifest *out)
{
	uint8_t buf[8192];
	struct wire_out o;
	struct wire_in in;

	wire_out_init(&o, buf, sizeof(buf));
	mig_manifest_put(&o, m);
	assert_int_equal(o.err, 0);
	wire_in_init(&in, buf, wire_used(&o));
	return mig_manifest_get(&in, out, NULL);
}

static void round_trip(void **state)
{
	struct mig_manifest m = sample(), r;

	assert_int_equal(there_and_back(&m, &r), 0);
	assert_memory_equal(&m, &r, sizeof(m));
	assert_int_equal(mig_manifest_ram(&r), 4ull << 30);
}

static void cut_anywhere_stores_nothing(void **state)
{
	struct mig_manifest m = sample(), r;
	uint8_t buf[8192];
	struct wire_out o;
	struct wire_in in;
	size_t n;

	wire_out_init(&o, buf, sizeof(buf));
	mig_manifest_put(&o, &m);
	n = wire_used(&o);
	for (size_t cut = 0; cut < n; cut++) {
		memset(&r, 0x5a, sizeof(r));
		wire_in_init(&in, buf, cut);
		assert_int_equal(mig_manifest_get(&in, &r, NULL), -EBADMSG);
		assert_int_equal((uint8_t)r.vm[0], 0x5a);
	}
}

#define REFUSED(change)                                             \
	do {                                                        \
		struct mig_manifest m = sample(), r;                \
		change;                                             \
		assert_int_equal(there_and_back(&m, &r), -EBADMSG); \
	} while (0)

static void nonsense_is_refused(void **state)
{
	REFUSED(m.cpus = 0);
	REFUSED(m.cpus = 100000);
	REFUSED(m.nram = 0);
	REFUSED(m.ram[1].gpa = 1ull << 30); /* overlap */
	REFUSED(m.ram[0].size = 0);
	REFUSED(m.ram[0].size = 4097);
	REFUSED(m.ram[1].size = UINT64_MAX - 4095); /* wraps */
	REFUSED(m.ram[1].gpa = UINT64_MAX - 4095);
	REFUSED(m.ram[0].page = 0);
	REFUSED(m.ram[0].page = 12288);
	REFUSED(m.ram[1].page = 2ull << 30);
	REFUSED(strcpy(m.device[1].name, "net0"));
	REFUSED(m.device[0].name[0] = '\0');
	REFUSED(m.device[0].backing = (enum mig_backing)7);
}

static void counts_beyond_the_arrays_are_refused(void **state)
{
	uint8_t buf[64];
	struct mig_manifest r;
	struct wire_out o;
	struct wire_in in;

	wire_out_init(&o, buf, sizeof(buf));
	put_str(&o, "x");
	put_u32(&o, 1);
	put_u64(&o, 0);
	put_u32(&o, MIG_RAM_MAX + 1);
	wire_in_init(&in, buf, sizeof(buf));
	assert_int_equal(mig_manifest_get(&in, &r, NULL), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(cut_anywhere_stores_nothing),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(counts_beyond_the_arrays_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
