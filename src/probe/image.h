/*
 * One ELF file: its code, its function symbols, its unwind data.
 *
 * Addresses are those of the file (the engine adds where it is loaded).  An
 * image never changes once open and may be read by several threads.
 */
#ifndef PROBE_IMAGE_H
#define PROBE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "probe/cfi.h"

struct image_symbol {
	const char *name;
	uint64_t addr, size; /* size 0: not said */
	uint8_t bind;	     /* STB_* */
	bool func;	     /* STT_FUNC or IFUNC, else a label */
	bool ifunc;
};

struct image_segment {
	uint64_t addr, filesz, memsz, offset;
	bool exec;
	const char *name; /* of a kernel's: "kernel", or the module */
};

struct image_plt { /* one stub of a PLT */
	uint64_t addr;
	const char *name;
};

struct image {
	char *path;
	const uint8_t *map;
	size_t map_size;
	bool pie;	/* may be loaded anywhere */
	bool has_debug; /* .debug_info is here */
	bool kernel;	/* vmlinux, or one that runs */
	uint64_t entry;
	struct image_segment *seg;
	size_t nseg;
	struct image_symbol *sym; /* sorted by address */
	size_t nsym;
	uint32_t *by_name; /* numbers of symbols, sorted by name */
	struct {
		uint64_t lo, hi;
	} plt[4];
	size_t nplt;
	struct image_plt *stub; /* sorted by address */
	size_t nstub;
	struct cfi cfi;
	char *names;	 /* of an image without a file */
	struct elf *elf; /* private to image.c */
};

int image_open(struct image **out, const char *path, struct err *e);
/*
 * A kernel as it runs: the text of its kallsyms ("address type name" lines,
 * modules' with "[module]" behind) and its code, read by 'read' from _stext
 * to _etext and around each module's functions.  The symbols are 'slide' away
 * from where they say, and then no module is among them.  What was patched at
 * boot is what is seen.  No unwind data: a kernel has it in another form.
 */
int image_of_kernel(struct image **out, const char *kallsyms, uint64_t slide,
		    int (*read)(void *opaque, uint64_t addr, void *buf,
				size_t len),
		    void *opaque, struct err *e);
void image_close(struct image *im); /* NULL is fine */

/*
 * Where the separate debug file of a stripped program is, by its build id,
 * below 'root' (may be NULL) and then where distributions put them; -ENOENT.
 */
int image_debug_file(const struct image *im, const char *root, char *path,
		     size_t size);
/*
 * Take that file's symbols too; before anybody else looks at the image.  The
 * build ids must agree (-ESTALE).
 */
int image_add_symbols(struct image *im, const char *path, struct err *e);

/* Bytes of code at addr, and how many follow in *avail; NULL if none. */
const uint8_t *image_code(const struct image *im, uint64_t addr, size_t *avail);
/* First symbol at or before addr whose extent holds it, functions first. */
const struct image_symbol *image_symbol_at(const struct image *im,
					   uint64_t addr);
/* A symbol that starts exactly at addr, functions first; NULL if none. */
const struct image_symbol *image_symbol_exact(const struct image *im,
					      uint64_t addr);
const struct image_symbol *image_symbol_named(const struct image *im,
					      const char *name);
/* The same if no other symbol has that name, else NULL. */
const struct image_symbol *image_symbol_only(const struct image *im,
					     const char *name);
bool image_in_plt(const struct image *im, uint64_t addr);
/* "puts@plt", or NULL. */
const char *image_plt_name(const struct image *im, uint64_t addr);

#endif
