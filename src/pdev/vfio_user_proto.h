/*
 * vfio-user on the wire.
 *
 * Every message is a header and a payload.  Numbers are in the host's byte
 * order, because both sides are on one host.  The payloads that mirror a
 * VFIO ioctl use the kernel's structs; the rest stand here, with no padding.
 *
 * Source: "vfio-user Protocol Specification" (QEMU docs/interop); section
 * names are quoted at each struct.
 */
#ifndef PDEV_VFIO_USER_PROTO_H
#define PDEV_VFIO_USER_PROTO_H

#include <assert.h>
#include <linux/vfio.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "Commands" */
enum vfio_user_cmd {
	VFIO_USER_VERSION = 1,
	VFIO_USER_DMA_MAP = 2,
	VFIO_USER_DMA_UNMAP = 3,
	VFIO_USER_GET_INFO = 4,
	VFIO_USER_GET_REGION_INFO = 5,
	VFIO_USER_GET_REGION_IO_FDS = 6,
	VFIO_USER_GET_IRQ_INFO = 7,
	VFIO_USER_SET_IRQS = 8,
	VFIO_USER_REGION_READ = 9,
	VFIO_USER_REGION_WRITE = 10,
	VFIO_USER_DMA_READ = 11,  /* server to client */
	VFIO_USER_DMA_WRITE = 12, /* server to client */
	VFIO_USER_RESET = 13,
	VFIO_USER_REGION_WRITE_MULTI = 15,
	VFIO_USER_FEATURE = 16,
	VFIO_USER_MIG_DATA_READ = 17,
	VFIO_USER_MIG_DATA_WRITE = 18,
};

/* "Header" */
struct vfio_user_hdr {
	uint16_t id; /* the sender's; echoed in the reply */
	uint16_t cmd;
	uint32_t size; /* of the whole message */
	uint32_t flags;
	uint32_t error; /* errno, in replies with VFIO_USER_F_ERROR */
};
static_assert(sizeof(struct vfio_user_hdr) == 16, "header");

#define VFIO_USER_F_TYPE     0xfu
#define VFIO_USER_F_COMMAND  0u
#define VFIO_USER_F_REPLY    1u
#define VFIO_USER_F_NO_REPLY (1u << 4)
#define VFIO_USER_F_ERROR    (1u << 5)

/* "VFIO_USER_VERSION"; JSON text with its NUL may follow. */
struct vfio_user_version {
	uint16_t major, minor;
};
static_assert(sizeof(struct vfio_user_version) == 4, "version");

#define VFIO_USER_MAJOR 0
#define VFIO_USER_MINOR 0

/* "VFIO_USER_DMA_MAP"; the file, if any, is the message's descriptor. */
struct vfio_user_dma_map {
	uint32_t argsz;
	uint32_t flags;	 /* VFIO_USER_DMA_* */
	uint64_t offset; /* in the file */
	uint64_t addr, size;
};
static_assert(sizeof(struct vfio_user_dma_map) == 32, "dma map");

#define VFIO_USER_DMA_READABLE	(1u << 0)
#define VFIO_USER_DMA_WRITEABLE (1u << 1)

/* "VFIO_USER_DMA_UNMAP"; the reply is the same again. */
struct vfio_user_dma_unmap {
	uint32_t argsz;
	uint32_t flags; /* 0, or VFIO_DMA_UNMAP_FLAG_ALL as others send */
	uint64_t addr, size;
};
static_assert(sizeof(struct vfio_user_dma_unmap) == 24, "dma unmap");

/* "VFIO_USER_DEVICE_GET_INFO": the kernel's struct less its later fields. */
struct vfio_user_info {
	uint32_t argsz, flags, num_regions, num_irqs;
};
static_assert(sizeof(struct vfio_user_info) == 16, "info");

/* "VFIO_USER_DEVICE_GET_REGION_INFO", "..._GET_IRQ_INFO", "..._SET_IRQS" */
static_assert(sizeof(struct vfio_region_info) == 32, "region info");
static_assert(sizeof(struct vfio_region_info_cap_sparse_mmap) == 16, "sparse");
static_assert(sizeof(struct vfio_region_sparse_mmap_area) == 16, "area");
static_assert(sizeof(struct vfio_irq_info) == 16, "irq info");
static_assert(offsetof(struct vfio_irq_set, data) == 20, "irq set");

/* "VFIO_USER_REGION_READ", "..._WRITE"; data follows. */
struct vfio_user_region_rw {
	uint64_t offset;
	uint32_t region, count;
};
static_assert(sizeof(struct vfio_user_region_rw) == 16, "region rw");

/* "VFIO_USER_REGION_WRITE_MULTI": a u64 count, then these. */
struct vfio_user_write_one {
	uint64_t offset;
	uint32_t region, count; /* at most 8 */
	uint8_t data[8];
};
static_assert(sizeof(struct vfio_user_write_one) == 24, "write multi");

/* "VFIO_USER_DMA_READ", "..._WRITE"; data follows. */
struct vfio_user_dma_rw {
	uint64_t addr, count;
};
static_assert(sizeof(struct vfio_user_dma_rw) == 16, "dma rw");

/*
 * The table in the specification gives 'count' of a DMA_WRITE reply four
 * bytes where the request has eight.  We send eight and accept either.
 */
#define VFIO_USER_DMA_WRITE_REPLY_MIN 12

/* "VFIO_USER_DEVICE_FEATURE": argsz and flags, then the feature's data. */
struct vfio_user_feature {
	uint32_t argsz, flags;
};
static_assert(sizeof(struct vfio_user_feature) == 8, "feature");

/* "VFIO_DEVICE_FEATURE_DMA_LOGGING_START"; ranges follow. */
struct vfio_user_log_start {
	uint64_t page_size;
	uint32_t num_ranges, reserved;
};
struct vfio_user_log_range {
	uint64_t iova, length;
};
/* "VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT"; the reply's bitmap follows. */
struct vfio_user_log_report {
	uint64_t iova, length, page_size;
};
static_assert(sizeof(struct vfio_user_log_start) == 16, "log start");
static_assert(sizeof(struct vfio_user_log_range) == 16, "log range");
static_assert(sizeof(struct vfio_user_log_report) == 24, "log report");

/* What one side can take, as agreed in VFIO_USER_VERSION. */
struct vfio_user_caps {
	uint32_t max_msg_fds;	     /* descriptors in one message */
	uint32_t max_data_xfer_size; /* bytes of data in one message */
	uint32_t max_dma_maps;
	uint64_t pgsizes;
	bool write_multiple;
	uint32_t named; /* CAP_*: spoken of at all */
};

#define VFIO_USER_CAP_FDS     (1u << 0)
#define VFIO_USER_CAP_XFER    (1u << 1)
#define VFIO_USER_CAP_MAPS    (1u << 2)
#define VFIO_USER_CAP_PGSIZES (1u << 3)
#define VFIO_USER_CAP_MULTI   (1u << 4)
#define VFIO_USER_CAP_ALL     0x1fu

#define VFIO_USER_XFER_DEFAULT 1048576u
/* Payload of a version message; the specification names no bound. */
#define VFIO_USER_VERSION_MAX 16384u
/* Payload of any message: data, and the fixed part in front of it. */
#define VFIO_USER_PAYLOAD_MAX (VFIO_USER_XFER_DEFAULT + 64u)

/* The JSON text behind a version, NUL included in 'len'; len 0: defaults. */
int vfio_user_caps_parse(const char *text, size_t len,
			 struct vfio_user_caps *out);
/* JSON with those capabilities that are in 'c->named'; free() it. */
char *vfio_user_caps_text(const struct vfio_user_caps *c);

#endif
