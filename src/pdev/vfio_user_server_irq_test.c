#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "pdev/vfio_user_hand.h"

static int set_irqs(struct hand *f, uint32_t flags, uint32_t index,
		    uint32_t start, uint32_t count, const int *fds, size_t nfds)
{
	uint32_t q[5] = { 20, flags, index, start, count };

	return hand_ask_fds(f, VFIO_USER_SET_IRQS, q, 20, fds, nfds);
}

static uint64_t signals(int fd)
{
	eventfd_t n = 0;

	return eventfd_read(fd, &n) == 0 ? n : 0;
}

static bool raise_irq(struct hand *f, unsigned int index, unsigned int vector)
{
	bool ret;

	vfu_enter(f->d.s);
	ret = vfu_irq_raise(f->d.s, index, vector);
	vfu_leave(f->d.s);
	return ret;
}

#define ARM  (VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER)
#define NONE (VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER)

static void vectors_are_armed_and_disarmed(void **state)
{
	struct hand *f = *state;
	int fd[3];

	for (int i = 0; i < 3; i++)
		fd[i] = eventfd(0, EFD_NONBLOCK);
	assert_false(raise_irq(f, PDEV_MSIX, 0));
	assert_int_equal(set_irqs(f, ARM, PDEV_MSIX, 0, 3, fd, 3), 0);
	assert_int_equal(f->d.irqs, 1);
	assert_true(raise_irq(f, PDEV_MSIX, 1));
	assert_int_equal(signals(fd[0]), 0);
	assert_int_equal(signals(fd[1]), 1);
	/* The client's own trigger. */
	assert_int_equal(set_irqs(f, NONE, PDEV_MSIX, 2, 1, NULL, 0), 0);
	assert_int_equal(signals(fd[2]), 1);
	/* Without descriptors: disarm those. */
	assert_int_equal(set_irqs(f, ARM, PDEV_MSIX, 1, 1, NULL, 0), 0);
	assert_false(raise_irq(f, PDEV_MSIX, 1));
	assert_true(raise_irq(f, PDEV_MSIX, 2));
	assert_int_equal(signals(fd[2]), 1);
	/* A full eventfd is signal enough, and nobody blocks on it. */
	assert_int_equal(eventfd_write(fd[2], UINT64_MAX - 1), 0);
	fcntl(fd[2], F_SETFL, 0);
	assert_true(raise_irq(f, PDEV_MSIX, 2));
	assert_int_equal(set_irqs(f, NONE, PDEV_MSIX, 0, 0, NULL, 0), 0);
	assert_false(raise_irq(f, PDEV_MSIX, 0));
	assert_false(raise_irq(f, PDEV_MSIX, 3));
	assert_false(raise_irq(f, 77, 0));
	for (int i = 0; i < 3; i++)
		close(fd[i]);
}

static void bad_irq_sets_change_nothing(void **state)
{
	struct hand *f = *state;
	int fd[3] = { eventfd(0, EFD_NONBLOCK), open("/dev/null", O_RDWR),
		      eventfd(0, EFD_NONBLOCK) };

	assert_int_equal(set_irqs(f, ARM, PDEV_MSIX, 0, 2, fd, 2), -EINVAL);
	assert_int_equal(set_irqs(f, ARM, PDEV_MSIX, 0, 2, fd, 1), -EINVAL);
	assert_int_equal(set_irqs(f, ARM, PDEV_MSIX, 0, 0, fd, 0), -EINVAL);
	assert_int_equal(set_irqs(f, ARM, PDEV_MSIX, 3, 1, fd, 1), -EINVAL);
	assert_int_equal(set_irqs(f, ARM, PDEV_MSIX, 2, UINT32_MAX, fd, 1),
			 -EINVAL);
	assert_int_equal(set_irqs(f, ARM, 5, 0, 1, fd, 1), -EINVAL);
	assert_int_equal(set_irqs(f, NONE, PDEV_MSIX, 0, 1, fd, 1), -EINVAL);
	assert_int_equal(set_irqs(f, NONE | ARM, PDEV_MSIX, 0, 1, fd, 1),
			 -EINVAL);
	assert_int_equal(set_irqs(f, VFIO_IRQ_SET_DATA_NONE, PDEV_MSIX, 0, 1,
				  NULL, 0),
			 -EINVAL);
	assert_int_equal(set_irqs(f, 1 << 8 | NONE, PDEV_MSIX, 0, 1, NULL, 0),
			 -EINVAL);
	assert_int_equal(set_irqs(f,
				  VFIO_IRQ_SET_DATA_BOOL |
					  VFIO_IRQ_SET_ACTION_TRIGGER,
				  PDEV_MSIX, 0, 3, NULL, 0),
			 -EINVAL); /* no bools came */
	assert_int_equal(
		set_irqs(f, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK,
			 PDEV_MSIX, 0, 1, NULL, 0),
		-EINVAL);
	assert_int_equal(f->d.irqs, 0);
	assert_false(raise_irq(f, PDEV_MSIX, 0));
	for (int i = 0; i < 3; i++)
		close(fd[i]);
}

static void intx_stays_quiet_until_unmasked(void **state)
{
	const uint32_t unmask =
		VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK;
	struct hand *f = *state;
	int fd = eventfd(0, EFD_NONBLOCK);

	assert_int_equal(set_irqs(f, ARM, PDEV_INTX, 0, 1, &fd, 1), 0);
	raise_irq(f, PDEV_INTX, 0);
	raise_irq(f, PDEV_INTX, 0);
	assert_int_equal(signals(fd), 1);
	assert_int_equal(set_irqs(f, unmask, PDEV_INTX, 0, 1, NULL, 0), 0);
	assert_int_equal(signals(fd), 1); /* the one kept back */
	assert_int_equal(set_irqs(f, unmask, PDEV_INTX, 0, 1, NULL, 0), 0);
	assert_int_equal(signals(fd), 0);
	raise_irq(f, PDEV_INTX, 0);
	assert_int_equal(signals(fd), 1);
	close(fd);
}

#define T(name) \
	cmocka_unit_test_setup_teardown(name, hand_setup_hello, hand_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(vectors_are_armed_and_disarmed),
		T(bad_irq_sets_change_nothing),
		T(intx_stays_quiet_until_unmasked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
