// sources: src/base/err.c src/base/log.c src/base/loop.c src/base/sock.c src/base/trace.c src/base/wire.c src/pci/caps.c src/pci/config.c src/pdev/pdev.c src/igb/gen.c src/igb/mbx.c src/igb/pf.c src/igb/pf_filter.c src/igb/pf_hw.c src/igb/pf_policy.c src/igb/pf_proto.c src/igb/pf_server.c src/igb/pf_sriov.c src/igb/pf_vf.c src/igb/pf_announce.c src/igb/pf_tx.c src/igb/rarp.c src/igb/fake_igb.c fuzz/vdev_pdev.c libs: jansson
/*
 * What a hostile VM can do to the PF driver: any messages on two connections
 * at once, in between accesses to its VF's mailbox; and a policy file that
 * is anything.  Whatever happens, the driver serves the next VM.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "igb/fake_igb.h"
#include "igb/pf_proto.h"
#include "igb/pf_server.h"

static void nothing(enum log_level level, const char *line, void *opaque)
{
}

static void spin(struct loop *l)
{
	for (int i = 0; i < 3; i++)
		loop_once(l, 0);
}

/* It must still say something sensible to a VM that behaves. */
static void must_serve(struct pf_server *s, struct loop *l)
{
	struct pf_msg m = { .type = PF_MSG_CLAIM, .seq = 7, .vf = PF_ANY_VF };
	uint8_t buf[PF_PROTO_MAX];
	int fd[2];
	ssize_t n;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fd) < 0)
		abort();
	if (pf_server_adopt(s, fd[1]) < 0)
		abort();
	n = send(fd[0], buf, pf_msg_encode(&m, buf), 0);
	if (n < 0)
		abort();
	spin(l);
	n = recv(fd[0], buf, sizeof(buf), 0);
	if (n <= 0 || pf_msg_decode(&m, buf, (size_t)n) < 0 ||
	    m.type != PF_MSG_CLAIMED || m.seq != 7)
		abort();
	close(fd[0]);
	spin(l);
}

/* One byte what, one byte how much, then that many bytes. */
static void play(struct fake_igb *d, struct loop *l, const int *fd,
		 const uint8_t *p, size_t size)
{
	uint8_t sink[PF_PROTO_MAX];

	while (size >= 2) {
		uint8_t what = p[0];
		size_t len = MIN((size_t)p[1] * 4, size - 2);
		uint32_t val = 0;

		p += 2;
		size -= 2;
		switch (what % 4) {
		case 0:
		case 1: send(fd[what % 2], p, len, MSG_NOSIGNAL); break;
		case 2:
			memcpy(&val, p, MIN(len, sizeof(val)));
			fake_igb_vf_write(d, what >> 2 & 1,
					  what & 0x10 ? IGBVF_V2PMAILBOX
					  : what & 0x20
						  ? IGBVF_CTRL
						  : IGBVF_VMBMEM + (val & 0x3c),
					  val);
			break;
		case 3:
			spin(l);
			for (int i = 0; i < 2; i++)
				while (recv(fd[i], sink, sizeof(sink), 0) > 0)
					;
			break;
		}
		p += len;
		size -= len;
	}
	spin(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct fake_igb d;
	struct pf_conf conf = { 0 };
	struct pf_server *s;
	struct loop *l;
	struct pf *pf;
	int fd[2][2], ours[2];

	log_set_sink(nothing, NULL);
	if (size > 0 && data[0] == '{') {
		char *text = calloc(1, size + 1);

		memcpy(text, data, size);
		pf_policy_parse(&conf.policy, text, NULL);
		free(text);
		return 0;
	}
	fake_igb_init(&d, IGB_DEV_82576);
	/* As found running: a bring-up would cost most of the time. */
	pci_config_set16(&d.cfg, d.sriov + 0x10, 4);
	pci_config_set16(&d.cfg, d.sriov + 0x08, 9);
	d.reg[IGB_CTRL_EXT / 4] = IGB_CTRL_EXT_DRV_LOAD;
	d.reg[IGB_MRQC / 4] = IGB_MRQC_VMDQ;
	d.reg[IGB_RCTL / 4] = IGB_RCTL_EN;
	pf_policy_default(&conf.policy);
	if (loop_create(&l) < 0 ||
	    pf_open(&pf, fake_igb_pdev(&d), l, &conf, NULL) < 0 ||
	    pf_server_create(&s, pf, l, NULL, NULL) < 0)
		abort();
	for (int i = 0; i < 2; i++) {
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0,
			       fd[i]) < 0)
			abort();
		ours[i] = fd[i][0];
		pf_server_adopt(s, fd[i][1]);
	}
	play(&d, l, ours, data, size);
	must_serve(s, l);
	for (int i = 0; i < 2; i++)
		close(ours[i]);
	spin(l);
	pf_server_destroy(s);
	pf_close(pf);
	loop_destroy(l);
	return 0;
}
