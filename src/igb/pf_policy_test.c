#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/util.h"
#include "igb/pf_policy.h"

static void default_policy(void **s)
{
	struct pf_policy p;

	pf_policy_default(&p);
	for (unsigned int i = 0; i < PF_VFS_MAX; i++) {
		assert_true(p.vf[i].guest_mac);
		assert_true(p.vf[i].spoof_check);
		assert_int_equal(p.vf[i].promisc, 0);
		assert_int_equal(p.vf[i].frame, 1522);
	}
}

static void own_object_overrides_default(void **s)
{
	struct pf_policy p;
	struct err e = { 0 };

	assert_int_equal(
		pf_policy_parse(&p,
				"{\"default\":{\"vlans\":[0,100],\"mtu\":9000,"
				"\"promiscuous\":\"multicast\"},"
				"\"vf\":{\"1\":{\"mac\":\"02:00:00:00:00:01\","
				"\"vlans\":\"any\",\"multicast\":3}}}",
				&e),
		0);
	assert_int_equal(p.vf[0].vlan[0], 1);
	assert_int_equal(p.vf[0].vlan[1], 1ull << 36);
	assert_int_equal(p.vf[0].frame, 9022);
	assert_true(p.vf[0].guest_mac);
	assert_false(p.vf[1].guest_mac);
	assert_int_equal(p.vf[1].mac[5], 1);
	assert_true(p.vf[1].vlan[63] == UINT64_MAX);
	assert_int_equal(p.vf[1].multicast, 3);
	assert_int_equal(p.vf[1].promisc, MBX_PROMISC_MULTICAST);
	assert_int_equal(p.vf[1].frame, 9022);
}

static void mistakes_are_named(void **s)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ "", "line" },
		{ "[]", "one JSON object" },
		{ "{\"defaults\":{}}", "defaults" },
		{ "{\"default\":{\"vlan\":[1]}}", "vlan" },
		{ "{\"default\":[]}", "not an object" },
		{ "{\"vf\":{\"8\":{}}}", "\"8\"" },
		{ "{\"vf\":{\"00\":{}}}", "\"00\"" },
		{ "{\"vf\":[]}", "not an object" },
		{ "{\"default\":{\"mac\":\"01:00:00:00:00:01\"}}", "unicast" },
		{ "{\"default\":{\"mac\":\"2:0:0:0:0:1\"}}", "unicast" },
		{ "{\"default\":{\"mac\":\"02:00:00:00:00:0g\"}}", "unicast" },
		{ "{\"default\":{\"mac\":\"02:00:00:00:00:01\"}}", "same MAC" },
		{ "{\"default\":{\"vlans\":[4095]}}", "4094" },
		{ "{\"default\":{\"vlans\":[-1]}}", "4094" },
		{ "{\"default\":{\"vlans\":[true]}}", "4094" },
		{ "{\"default\":{\"mtu\":9707}}", "9706" },
		{ "{\"default\":{\"mtu\":67}}", "9706" },
		{ "{\"default\":{\"multicast\":31}}", "0..30" },
		{ "{\"default\":{\"mac-filters\":5}}", "0..4" },
		{ "{\"default\":{\"promiscuous\":\"yes\"}}", "none" },
		{ "{\"default\":{\"spoof-check\":1}}", "true" },
		{ "{\"vf\":{\"0\":{\"mac\":\"02:00:00:00:00:01\","
		  "\"initial-mac\":\"02:00:00:00:00:02\"}}}",
		  "beside" },
	};
	struct pf_policy p, before;

	memset(&p, 0x5a, sizeof(p));
	before = p;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err e = { 0 };

		if (pf_policy_parse(&p, bad[i].text, &e) == 0)
			fail_msg("accepted %s", bad[i].text);
		if (!strstr(e.text, bad[i].says))
			fail_msg("%s: said '%s'", bad[i].text, e.text);
		assert_memory_equal(&p, &before, sizeof(p));
	}
}

/* What a strict policy refuses, each alone, and what it does not. */
static void strict_policy_refuses(void **s)
{
	struct mbx_state st;
	struct pf_policy pol;
	const struct pf_vf_policy *p = &pol.vf[0];
	struct mbx_req r;

	assert_int_equal(
		pf_policy_parse(&pol,
				"{\"vf\":{\"0\":{\"mac\":\"02:00:00:00:00:01\","
				"\"vlans\":[5],\"multicast\":1}}}",
				NULL),
		0);
	mbx_state_init(&st, p->mac);

	r = (struct mbx_req){ .op = MBX_OP_RESET };
	assert_null(pf_policy_refuses(p, &st, &r));
	r = (struct mbx_req){ .op = MBX_OP_SET_MAC,
			      .mac = { 2, 0, 0, 0, 0, 1 } };
	assert_null(pf_policy_refuses(p, &st, &r));
	r.mac[5] = 2;
	assert_non_null(pf_policy_refuses(p, &st, &r));
	r.op = MBX_OP_MAC_ADD;
	assert_non_null(pf_policy_refuses(p, &st, &r));
	r.op = MBX_OP_MAC_CLEAR;
	assert_null(pf_policy_refuses(p, &st, &r));
	r = (struct mbx_req){ .op = MBX_OP_VLAN, .vid = 5, .add = true };
	assert_null(pf_policy_refuses(p, &st, &r));
	r.vid = 6;
	assert_non_null(pf_policy_refuses(p, &st, &r));
	r.add = false;
	assert_null(pf_policy_refuses(p, &st, &r));
	r = (struct mbx_req){ .op = MBX_OP_MULTICAST, .nhashes = 1 };
	assert_null(pf_policy_refuses(p, &st, &r));
	r.nhashes = 2;
	assert_non_null(pf_policy_refuses(p, &st, &r));
	r = (struct mbx_req){ .op = MBX_OP_LPE, .frame = 1522 };
	assert_null(pf_policy_refuses(p, &st, &r));
	r.frame = 1523;
	assert_non_null(pf_policy_refuses(p, &st, &r));
	r = (struct mbx_req){ .op = MBX_OP_PROMISC };
	assert_null(pf_policy_refuses(p, &st, &r));
	r.promisc = MBX_PROMISC_MULTICAST;
	assert_non_null(pf_policy_refuses(p, &st, &r));
	r = (struct mbx_req){ .op = MBX_OP_NONE };
	assert_non_null(pf_policy_refuses(p, &st, &r));

	assert_null(pf_policy_refuses_state(p, &st));
	st.vlan[0] = 1 << 6;
	assert_non_null(pf_policy_refuses_state(p, &st));
	st.vlan[0] = 1 << 5;
	assert_null(pf_policy_refuses_state(p, &st));
	st.mac[5] = 2;
	assert_non_null(pf_policy_refuses_state(p, &st));
	st.mac[5] = 1;
	st.frame = 9022;
	assert_non_null(pf_policy_refuses_state(p, &st));
	st.frame = 1522;
	st.promisc = 1;
	assert_non_null(pf_policy_refuses_state(p, &st));
	st.promisc = 0;
	st.nhashes = 2;
	assert_non_null(pf_policy_refuses_state(p, &st));
	st.nhashes = 0;
	st.nfilters = 1;
	assert_non_null(pf_policy_refuses_state(p, &st));
}

/* Lines are counted from 1; what looks like the member elsewhere is none. */
static void mistakes_have_a_line(void **s)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{ "{\n\"vf\": {\n}", "line 3: " },
		{ "{\n\"vf\": {},\n\"vf\": {}}", "line 3: " },
		{ "{\n\n\"vlan\": 1}", "line 3: member" },
		{ "{\"default\": {\"mtu\": 1500,\n\"vlan\": []}}", "line 2: " },
		{ "{\"vf\": {\"0\": {\"mtu\": 1500},\n\"1\":\n{\"mtu\": 1}}}",
		  "line 3: \"1\"" },
		{ "{\"vf\": {\"0\": {\"mtu\": 1500},\n\"9\":{}}}",
		  "line 2: \"vf\"" },
		{ "{\"vf\":\n{\"1\":\n{\"vlans\":\n\"mtu\"}}}",
		  "line 3: \"1\": \"vlans\"" },
		{ "{\"vf\": {\"0\": {\"mac\": \"a\\\"mtu\",\n\"mtu\": 1500}}}",
		  "line 1: \"0\": \"mac\"" },
		{ "{\"vf\":\n[]}", "line 1: \"vf\"" },
		/* Named in another way: no line rather than a wrong one. */
		{ "{\"default\":\n{\"\\u006dtu\": 1}}",
		  "\"default\": \"mtu\"" },
	};
	struct pf_policy p;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err e = { 0 };

		if (pf_policy_parse(&p, bad[i].text, &e) == 0)
			fail_msg("accepted %s", bad[i].text);
		if (strncmp(e.text, bad[i].says, strlen(bad[i].says)) != 0)
			fail_msg("%s: said '%s'", bad[i].text, e.text);
	}
}

/* What ends early, says the rest behind a zero, or never ends. */
static void files_are_read_whole(void **s)
{
	static const char half[] = "{}\0{\"default\": {\"vlans\": [0]}}";
	char path[] = "/tmp/pagurus-policy-XXXXXX";
	int fd = mkstemp(path);
	struct pf_policy p;
	struct err e = { 0 };

	assert_true(fd >= 0);
	assert_int_equal(write(fd, half, sizeof(half) - 1), sizeof(half) - 1);
	close(fd);
	assert_int_equal(pf_policy_load(&p, path, &e), -EINVAL);
	assert_non_null(strstr(e.text, "zero byte"));
	unlink(path);
	err_clear(&e);
	assert_int_equal(pf_policy_load(&p, "/dev/zero", &e), -EFBIG);
	err_clear(&e);
	assert_true(pf_policy_load(&p, "/tmp", &e) < 0);
}

static void a_missing_file_is_named(void **s)
{
	struct pf_policy p;
	struct err e = { 0 };

	assert_int_equal(pf_policy_load(&p, "/nonexistent/policy", &e),
			 -ENOENT);
	assert_non_null(strstr(e.text, "/nonexistent/policy"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(default_policy),
		cmocka_unit_test(own_object_overrides_default),
		cmocka_unit_test(mistakes_are_named),
		cmocka_unit_test(mistakes_have_a_line),
		cmocka_unit_test(files_are_read_whole),
		cmocka_unit_test(strict_policy_refuses),
		cmocka_unit_test(a_missing_file_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
