#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cli/status_print.h"

static json_t *load(const char *text)
{
	json_t *j = json_loads(text, 0, NULL);

	assert_non_null(j);
	return j;
}

/* Two processes' events become one story, by time. */
static void traces_are_one_by_time(void **s)
{
	const char *const who[] = { "vm", "pf0" };
	json_t *t[2] = {
		load("{\"lost\":0,\"events\":["
		     "{\"seq\":1,\"ns\":2000000000,\"vf\":3,\"what\":"
		     "\"callback\",\"state\":\"direct\",\"off\":0,\"val\":0},"
		     "{\"seq\":2,\"ns\":2000004500,\"vf\":3,\"what\":"
		     "\"publish\","
		     "\"state\":\"asked\",\"off\":2048,\"val\":2684420100},"
		     "{\"seq\":3,\"ns\":2000009500,\"vf\":3,\"what\":\"read\","
		     "\"state\":\"answered\",\"off\":3136,\"val\":48}]}"),
		load("{\"lost\":7,\"events\":["
		     "{\"seq\":9,\"ns\":1999999000,\"vf\":3,\"what\":"
		     "\"pf-request\",\"state\":\"\",\"off\":3200,\"val\":8},"
		     "{\"seq\":10,\"ns\":2000002000,\"vf\":3,\"what\":"
		     "\"pf-verdict\",\"state\":\"granted\",\"off\":0,"
		     "\"val\":65540}]}"),
	};
	static const char *const order[] = { "pf0: 7 events before",
					     "1.999999",
					     "pf-request",
					     "MBVFICR",
					     "2.000000",
					     "callback",
					     " request",
					     "pf-verdict",
					     "vlan",
					     "2.5 vm",
					     "publish",
					     "VMBMEM[0]",
					     "vlan ACK CTS",
					     "V2PMAILBOX",
					     "PFSTS PFACK" };
	char *text = NULL, *at;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	status_print_trace(f, (const json_t *const *)t, who, 2);
	fclose(f);
	assert_non_null(text);
	at = text;
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		char *next = strstr(at, order[i]);

		if (!next)
			fail_msg("no '%s' in its place:\n%s", order[i], text);
		else
			at = next;
	}
	free(text);
	json_decref(t[0]);
	json_decref(t[1]);
}

static void refusals_are_shown(void **s)
{
	json_t *pf = load(
		"{\"name\":\"pf0\",\"state\":\"running\",\"pid\":5,\"pf\":"
		"\"0000:01:00.0\",\"generation\":\"igb/82576\",\"link\":true,"
		"\"connections\":{\"live\":1,\"refused\":2,\"bad\":3,\"slow\":"
		"4},\"vfs\":[{\"vf\":0,\"claimed\":true,\"who\":\"web\","
		"\"clear_to_send\":true,\"mac\":\"02:00:00:00:00:01\","
		"\"vlans\":[5,6],\"multicast\":1,\"max_frame\":1522,"
		"\"requests\":9,\"refused\":3,\"last_refusal\":"
		"\"the MAC is fixed\"},{\"vf\":1,\"claimed\":false,"
		"\"vlans\":[],\"last_refusal\":\"\"}]}");
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	status_print_pf(f, pf);
	fclose(f);
	assert_non_null(text);
	assert_non_null(strstr(text, "VF 0  web, 02:00:00:00:00:01 VLANs 5,6"));
	assert_non_null(strstr(text, "3 refused; last: the MAC is fixed"));
	assert_non_null(strstr(text, "VF 1  free"));
	assert_non_null(strstr(text, "3 ended for nonsense, 4 for not"));
	free(text);
	json_decref(pf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(traces_are_one_by_time),
		cmocka_unit_test(refusals_are_shown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
