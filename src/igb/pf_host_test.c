#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "igb/pf_host.h"

static void a_token_is_made_once(void **s)
{
	char path[] = "/tmp/pagurus-token-XXXXXX", a[PF_TOKEN_SIZE],
	     b[PF_TOKEN_SIZE];
	struct err e = { 0 };
	struct stat st;
	FILE *f;
	int fd = mkstemp(path);

	close(fd);
	/* Not by chance an empty file of somebody else. */
	assert_int_equal(pf_host_token(a, path, &e), -EINVAL);
	assert_non_null(strstr(e.text, "holds no token"));
	unlink(path);
	err_clear(&e);
	assert_int_equal(pf_host_token(a, path, &e), 0);
	assert_int_equal(strlen(a), 36);
	assert_int_equal(a[14], '4');
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(pf_host_token(b, path, &e), 0);
	assert_string_equal(a, b);
	/* A token others can read opens others' VFs. */
	chmod(path, 0644);
	assert_int_equal(pf_host_token(b, path, &e), -EPERM);
	assert_non_null(strstr(e.text, "by others"));
	chmod(path, 0600);
	f = fopen(path, "w");
	fputs("0123456789-0123-0123-0123-0123456789ab", f);
	fclose(f);
	assert_int_equal(pf_host_token(b, path, NULL), -EINVAL);
	unlink(path);
}

static void specs_of_vfs(void **s)
{
	char buf[64];

	assert_int_equal(pf_host_vf_spec("vfio-user:/run/nic0/pf.sock", NULL, 3,
					 buf, sizeof(buf)),
			 0);
	assert_string_equal(buf, "vfio-user:/run/nic0/vf3.sock");
	assert_int_equal(pf_host_vf_spec("vfio-user:/run/nic0/pf.sock", NULL, 3,
					 buf, 20),
			 -ENAMETOOLONG);
	assert_int_equal(pf_host_vf_spec("vfio-user:pf.sock", NULL, 0, buf,
					 sizeof(buf)),
			 -EINVAL);
	assert_int_equal(pf_host_vf_spec("ffff:ff:1f.7", "x", 0, buf,
					 sizeof(buf)),
			 -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_token_is_made_once),
		cmocka_unit_test(specs_of_vfs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
