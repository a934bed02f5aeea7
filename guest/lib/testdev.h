/*
 * The test function: a PCI device that the VMM's tests plug in (the host
 * side is src/vmm/testdev.c) and the scenarios of unit.c drive.
 *
 * BAR 0, 16 KiB.  Page 0 is always trapped; page 1 is what the host makes
 * direct or trapped: 4 KiB of memory that acts the same in both states.
 */
#ifndef TESTDEV_H
#define TESTDEV_H

#define TESTDEV_VENDOR 0x1b36
#define TESTDEV_DEVICE 0x7057

#define TESTDEV_SCRATCH 0x000 /* 64 bytes that read back what was written */
#define TESTDEV_CMD	0x100 /* write: do it now; the rest are arguments */
#define TESTDEV_ARG0	0x108 /* 64 bits each */
#define TESTDEV_ARG1	0x110
#define TESTDEV_RESULT	0x118
#define TESTDEV_PAGE	0x1000
#define TESTDEV_MSIX	0x3000 /* in BAR 0 too: table, PBA at 0x3800 */
#define TESTDEV_VECTORS 4

/* Commands.  Unless said otherwise the result is 0 or a negative errno. */
#define CMD_MSI	      1 /* fire the irqfd of vector ARG0 */
#define CMD_DIRECT    2 /* page 1 direct (ARG0 = 1) or trapped (0) */
#define CMD_COUNT     3 /* result: accesses to page 1 that were trapped */
#define CMD_SPLIT     4 /* split ARG1 bytes at ARG0 */
#define CMD_MERGE     5 /* merge them */
#define CMD_DEV_WRITE 6 /* what a device would do: store ARG1 at ARG0 */
#define CMD_DEV_READ  7 /* result: the device's view of 8 bytes at ARG0 */
#define CMD_TELL      8 /* let the test on the host know ARG0 */

#endif
