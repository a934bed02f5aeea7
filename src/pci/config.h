/*
 * Configuration space of an emulated function: bytes, and which of their
 * bits a guest may change.
 *
 * Three arrays side by side say what a write does: bits in 'wmask' take the
 * new value, bits in 'w1c' are cleared by writing one, all others stay.
 * Masks come from tables, one row a register (config.c, and the helper of
 * each capability); a byte no row names is read-only zero.
 *
 * Nothing private lives in the guest-visible bytes.  The struct is plain
 * memory of its owner, who also brings the lock.
 */
#ifndef PCI_CONFIG_H
#define PCI_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#define PCI_CONFIG_SIZE 4096u

struct pci_config {
	uint8_t val[PCI_CONFIG_SIZE];
	uint8_t wmask[PCI_CONFIG_SIZE];
	uint8_t w1c[PCI_CONFIG_SIZE];
	uint64_t bar_size[6]; /* bytes, 0: no BAR (or a high half) */
	bool bar_wide[6];     /* 64-bit, takes the next one too */
	uint16_t last_cap;    /* offset of the last one, 0: none */
	uint16_t last_ecap;
};

/* One register: reset value and masks.  size is 1, 2 or 4 bytes. */
struct pci_reg {
	uint16_t off;
	uint8_t size;
	uint32_t val, wmask, w1c;
};

struct pci_ident {
	uint16_t vendor, device, subvendor, subdevice;
	uint8_t revision;
	uint32_t class_code; /* 24 bits */
};

#define PCI_BAR_64	 (1u << 0)
#define PCI_BAR_PREFETCH (1u << 1)

/* A type 0 header with this identity, no BAR and no capability. */
void pci_config_init(struct pci_config *c, const struct pci_ident *id);

/* Rows are relative to 'base'; a row replaces what was there. */
void pci_config_regs(struct pci_config *c, uint16_t base,
		     const struct pci_reg *rows, unsigned int n);

/* 'size' is a power of two of at least 16; -EINVAL where it does not fit. */
int pci_config_bar(struct pci_config *c, unsigned int bar, uint64_t size,
		   unsigned int flags);

/*
 * Chain a capability of 'size' bytes at 'off' (multiple of 4).  The caller
 * then adds the rows behind the two (extended: four) header bytes.  The
 * first extended one must be at 0x100.  -EINVAL: does not fit.
 */
int pci_config_cap(struct pci_config *c, uint8_t id, uint16_t off,
		   unsigned int size);
int pci_config_ecap(struct pci_config *c, uint16_t id, uint8_t version,
		    uint16_t off, unsigned int size);
/* Offset of a capability, 0: not there.  Never loops on a broken list. */
uint16_t pci_config_find(const struct pci_config *c, uint8_t id);
uint16_t pci_config_efind(const struct pci_config *c, uint16_t id);

/*
 * Guest accesses.  Any size up to 4 that stays inside; one that does not
 * reads all ones and writes nothing.
 */
uint32_t pci_config_read(const struct pci_config *c, uint32_t off,
			 unsigned int size);
void pci_config_write(struct pci_config *c, uint32_t off, unsigned int size,
		      uint32_t val);

/* The owner's accesses: no mask, little-endian. */
uint16_t pci_config_get16(const struct pci_config *c, uint32_t off);
uint32_t pci_config_get32(const struct pci_config *c, uint32_t off);
void pci_config_set16(struct pci_config *c, uint32_t off, uint16_t val);
void pci_config_set32(struct pci_config *c, uint32_t off, uint32_t val);

/*
 * Where BAR 'bar' decodes now: its address if memory decoding is on and the
 * address is one a bus can have, PCI_UNMAPPED (func.h) otherwise.
 */
uint64_t pci_config_bar_gpa(const struct pci_config *c, unsigned int bar);

/* Whether a write to [off, off + size) can have moved a BAR. */
bool pci_config_moves_bar(uint32_t off, unsigned int size);

#endif
