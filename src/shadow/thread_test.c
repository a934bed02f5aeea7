/*
 * Guest, device, interrupts, poller and hypervisor each in a thread of its
 * own: engage and release while all of them work, every frame numbered.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/util.h"
#include "shadow/sim.h"

static unsigned int toggles = 300;

static struct sim sim;
static atomic_bool stop;

static void *guest(void *arg)
{
	while (!stop) {
		pthread_mutex_lock(&sim.turn);
		for (int i = 0; i < 4 && sim_guest_send(&sim); i++)
			;
		sim_guest_kick(&sim);
		sim_guest_poll(&sim, 16);
		sim_guest_post(&sim, 16);
		sim_guest_scribble(&sim);
		pthread_mutex_unlock(&sim.turn);
		usleep(20);
	}
	return NULL;
}

static void *device(void *arg)
{
	unsigned int seed = 1;

	while (!stop) {
		for (int i = rand_r(&seed) % 8; i-- && sim_dev_transmit(&sim);)
			;
		for (int i = rand_r(&seed) % 4; i--;)
			sim_dev_receive(&sim, 1 + (uint32_t)rand_r(&seed) %
							      SIM_FRAME);
		sim_dev_flush(&sim, (unsigned int)rand_r(&seed) % 16,
			      rand_r(&seed) % 3 == 0);
		usleep(20);
	}
	return NULL;
}

static void *loop(void *arg)
{
	loop_run(arg);
	return NULL;
}

static void run(struct sim_opts o, unsigned int n)
{
	struct shadow_stats st;
	pthread_t g, d, l;
	struct err e = { 0 };

	assert_int_equal(sim_init(&sim, &o), 0);
	sim_guest_up(&sim);
	sim_guest_post(&sim, o.nrx);
	stop = false;
	sim.threads = true;
	/* Until the guest's thread is known, nobody may pause it. */
	pthread_mutex_lock(&sim.turn);
	assert_int_equal(pthread_create(&g, NULL, guest, NULL), 0);
	sim.guest = g;
	pthread_mutex_unlock(&sim.turn);
	assert_int_equal(pthread_create(&d, NULL, device, NULL), 0);
	assert_int_equal(pthread_create(&l, NULL, loop, sim.loop), 0);

	for (unsigned int i = 0; i < n && !sim.fault; i++) {
		int ret = shadow_engage(sim.sh, IGB_ALLQ, &e);

		if (ret)
			fail_msg("engage: %s", err_text(&e, ret));
		usleep(i % 7 * 300);
		ret = shadow_release(sim.sh, &e);
		if (ret)
			fail_msg("release: %s", err_text(&e, ret));
		usleep(i % 5 * 100);
	}
	stop = true;
	pthread_join(g, NULL);
	pthread_join(d, NULL);
	loop_stop(sim.loop);
	pthread_join(l, NULL);
	sim.threads = false;
	sim_settle(&sim);
	sim_check(&sim);
	if (sim.fault)
		fail_msg("%s (%#llx, %#llx)", sim.fault,
			 (unsigned long long)sim.fault_arg[0],
			 (unsigned long long)sim.fault_arg[1]);
	shadow_get_stats(sim.sh, &st);
	assert_int_equal(st.rx[0].bad + st.tx[0].bad, 0);
	assert_true(st.rx[0].completed > 0 && st.tx[0].completed > 0);
	print_message("%u toggles, %llu frames in, %llu out; %llu requests "
		      "engaged, doorbells %llu times without exits\n",
		      n, (unsigned long long)sim.dev.rx_seq,
		      (unsigned long long)sim.dev.tx_seq,
		      (unsigned long long)st.rx[0].completed +
			      st.tx[0].completed,
		      (unsigned long long)st.stand_ins);
	sim_fini(&sim);
}

static void toggles_under_load(void **state)
{
	run((struct sim_opts){ .seed = 1, .nrx = 64, .ntx = 64, .batch = 3 },
	    toggles);
}

static void toggles_with_shared_pages(void **state)
{
	run((struct sim_opts){ .seed = 2,
			       .nrx = 32,
			       .ntx = 32,
			       .tight = true,
			       .batch = 4,
			       .head_first = true },
	    toggles / 2);
}

static void toggles_full(void **state)
{
	run((struct sim_opts){ .seed = 3,
			       .nrx = 32,
			       .ntx = 32,
			       .shadow.full = true,
			       .shadow.poll_ns = 20000 },
	    toggles / 6);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(toggles_under_load),
		cmocka_unit_test(toggles_with_shared_pages),
		cmocka_unit_test(toggles_full),
	};

	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--toggles"))
			toggles = (unsigned int)strtoul(argv[i + 1], NULL, 0);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
