/*
 * Guest memory: one memfd, seen twice.
 *
 *	guest view    | page | COPY | page |   <- KVM's slots, hence vCPUs
 *	                 |             |
 *	backing view  | page | page | page |   <- VFIO pins these: devices
 *
 * A split puts an anonymous copy over a stretch of the guest view; KVM hears
 * of it through its MMU notifier and the device is not touched at all.
 */
#include "vmm/priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bitmap.h"

#define HUGE_SIZE (2ul << 20)
#define BAR_SLOT0 8 /* RAM has the first numbers */

#ifndef KVM_X86_QUIRK_SLOT_ZAP_ALL
#define KVM_X86_QUIRK_SLOT_ZAP_ALL (1 << 7)
#endif

static int slot_set(struct vm *vm, uint32_t id, uint32_t flags, uint64_t gpa,
		    uint64_t len, void *va)
{
	struct kvm_userspace_memory_region r = {
		.slot = id,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = len,
		.userspace_addr = (uintptr_t)va,
	};

	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &r) < 0 ? -errno : 0;
}

/*
 * Deleting a slot makes older kernels throw away the translations of all
 * memory, RAM included; each toggle of a BAR page would cost the guest its
 * whole shadow or nested page table.  Where that can be switched off, do.
 */
static void slot_zap_quirk_off(struct vm *vm)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_DISABLE_QUIRKS2,
		.args = { KVM_X86_QUIRK_SLOT_ZAP_ALL },
	};
	int have = ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_DISABLE_QUIRKS2);

	if (have > 0 && (have & KVM_X86_QUIRK_SLOT_ZAP_ALL))
		ioctl(vm->fd, KVM_ENABLE_CAP, &cap);
}

static int map_twice(struct vm *vm, uint64_t size, bool huge, struct err *e)
{
	struct vm_mem *m = &vm->mem;
	char *view[2] = { MAP_FAILED, MAP_FAILED };
	uint64_t low = MIN(size, RAM_LOW_END);
	int ret;

	m->fd = memfd_create("guest-ram",
			     MFD_CLOEXEC | (huge ? MFD_HUGETLB : 0));
	if (m->fd < 0)
		return err_sys(e, -errno, "guest memory: memfd_create");
	if (ftruncate(m->fd, (off_t)size) < 0) {
		ret = err_sys(e, -errno, "guest memory of %lu MiB", size >> 20);
		goto close;
	}

	for (unsigned int i = 0; i < 2; i++) {
		view[i] = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
			       m->fd, 0);
		if (view[i] == MAP_FAILED && huge) {
			ret = err_set(e, -errno,
				      "guest memory: not enough free huge "
				      "pages for %lu MiB; reserve %lu in "
				      "/proc/sys/vm/nr_hugepages or run "
				      "without huge pages",
				      size >> 20, size / HUGE_SIZE);
			goto unmap;
		}
		if (view[i] == MAP_FAILED) {
			ret = err_set(e, -errno,
				      "guest memory: this host cannot map "
				      "%lu MiB: give the VM less, or see "
				      "ulimit -v",
				      size >> 20);
			goto unmap;
		}
		/*
		 * Fewer translations for CPU and IOMMU where the host lets
		 * shared memory have huge pages; no loss where it does not.
		 */
		if (!huge)
			madvise(view[i], size, MADV_HUGEPAGE);
	}

	m->ram[0] = (struct host_ram){
		.size = low,
		.page = huge ? HUGE_SIZE : PAGE_SIZE,
		.fd = m->fd,
		.guest = view[0],
		.backing = view[1],
	};
	m->nram = 1;
	if (size > low)
		m->ram[m->nram++] = (struct host_ram){
			.gpa = { RAM_HIGH },
			.size = size - low,
			.page = m->ram[0].page,
			.fd = m->fd,
			.fd_offset = low,
			.guest = view[0] + low,
			.backing = view[1] + low,
		};
	m->pages = size >> PAGE_SHIFT;
	return 0;

unmap:
	if (view[0] != MAP_FAILED)
		munmap(view[0], size);
close:
	close_fd(&m->fd);
	return ret;
}

int mem_create(struct vm *vm, uint64_t size, bool huge, struct err *e)
{
	struct kvm_enable_cap manual = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		.args = { KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE },
	};
	struct vm_mem *m = &vm->mem;
	int ret;

	if (size < HUGE_SIZE || size % HUGE_SIZE)
		return err_set(e, -EINVAL,
			       "memory of %lu bytes: give a multiple of 2 MiB",
			       size);
	if (ioctl(vm->fd, KVM_ENABLE_CAP, &manual) < 0)
		return err_set(e, -ENOTSUP,
			       "this kernel's KVM has no manual dirty log "
			       "(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2); Linux 6.1 "
			       "or later is needed");
	slot_zap_quirk_off(vm);

	m->split = bitmap_alloc(size >> PAGE_SHIFT);
	m->marked = bitmap_alloc(size >> PAGE_SHIFT);
	m->scratch = bitmap_alloc(size >> PAGE_SHIFT);
	if (!m->split || !m->marked || !m->scratch)
		return err_sys(e, -ENOMEM, "guest memory");

	ret = map_twice(vm, size, huge, e);
	if (ret)
		return ret;
	for (uint32_t i = 0; i < m->nram; i++) {
		ret = slot_set(vm, i, 0, m->ram[i].gpa.v, m->ram[i].size,
			       m->ram[i].guest);
		if (ret)
			return err_sys(e, ret, "KVM refuses %lu MiB of RAM",
				       m->ram[i].size >> 20);
	}
	return 0;
}

void mem_destroy(struct vm *vm)
{
	struct vm_mem *m = &vm->mem;

	if (m->nram) {
		munmap(m->ram[0].guest, m->pages << PAGE_SHIFT);
		munmap(m->ram[0].backing, m->pages << PAGE_SHIFT);
	}
	m->nram = 0;
	close_fd(&m->fd);
	free(m->split);
	free(m->marked);
	free(m->scratch);
	pthread_mutex_destroy(&m->lock);
}

/* The region that holds all of [gpa, gpa + len), or NULL. */
static const struct host_ram *find(const struct vm_mem *m, uint64_t gpa,
				   uint64_t len)
{
	for (size_t i = 0; i < m->nram; i++) {
		const struct host_ram *r = &m->ram[i];

		if (gpa >= r->gpa.v && gpa - r->gpa.v < r->size &&
		    len <= r->size - (gpa - r->gpa.v))
			return r;
	}
	return NULL;
}

static uint64_t page_index(const struct host_ram *r, uint64_t gpa)
{
	return (r->fd_offset + gpa - r->gpa.v) >> PAGE_SHIFT;
}

void *mem_ptr(struct vm *vm, uint64_t gpa, uint64_t len)
{
	const struct host_ram *r = find(&vm->mem, gpa, len);

	return r ? (char *)r->guest + (gpa - r->gpa.v) : NULL;
}

/* Whole units of one region, all of them in state 'split'; or -errno. */
static int check_units(const struct vm_mem *m, const struct host_ram *r,
		       uint64_t gpa, uint64_t len, bool split)
{
	uint64_t first, n = len >> PAGE_SHIFT, end;

	if (!r || !len || gpa % r->page || len % r->page)
		return -EINVAL;
	first = page_index(r, gpa);
	end = split ? bitmap_next_clear(m->split, first + n, first)
		    : bitmap_next(m->split, first + n, first);
	return end < first + n ? -EALREADY : 0;
}

/*
 * The copy is complete before it appears: other threads of ours that read
 * the guest view (a migration sending RAM) never see a page of zeros, as
 * they would if an empty mapping were filled in place.
 */
int mem_split(struct vm *vm, uint64_t gpa, uint64_t len)
{
	struct vm_mem *m = &vm->mem;
	const struct host_ram *r = find(m, gpa, len);
	char *copy, *at;
	int ret;

	pthread_mutex_lock(&m->lock);
	ret = check_units(m, r, gpa, len, false);
	if (ret)
		goto unlock;
	copy = mmap(NULL, len, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (copy == MAP_FAILED) {
		ret = -errno;
		goto unlock;
	}

	at = (char *)r->guest + (gpa - r->gpa.v);
	vm_pause(vm);
	memcpy(copy, at, len);
	if (mremap(copy, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, at) ==
	    MAP_FAILED) {
		ret = -errno;
		munmap(copy, len);
	} else {
		bitmap_set_range(m->split, page_index(r, gpa),
				 len >> PAGE_SHIFT);
	}
	vm_resume(vm);
unlock:
	pthread_mutex_unlock(&m->lock);
	return ret;
}

int mem_merge(struct vm *vm, uint64_t gpa, uint64_t len)
{
	struct vm_mem *m = &vm->mem;
	const struct host_ram *r = find(m, gpa, len);
	uint64_t off;
	int ret;

	pthread_mutex_lock(&m->lock);
	ret = check_units(m, r, gpa, len, true);
	if (ret)
		goto unlock;

	off = gpa - r->gpa.v;
	vm_pause(vm);
	if (mmap((char *)r->guest + off, len, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED, r->fd,
		 (off_t)(r->fd_offset + off)) == MAP_FAILED) {
		ret = -errno;
	} else {
		bitmap_clear_range(m->split, page_index(r, gpa),
				   len >> PAGE_SHIFT);
		/* What the guest sees there may have changed just now. */
		mem_mark(vm, gpa, len);
	}
	vm_resume(vm);
unlock:
	pthread_mutex_unlock(&m->lock);
	return ret;
}

/*
 * A change of slots waits in the kernel until every reader of the old list
 * has moved on, and for a worker that tells it so.  That worker needs a core:
 * where vCPUs spin on all of them it has been seen to wait most of a second,
 * which is all the patience a guest's driver has.  So they stand aside.
 */
static int slot_toggle(struct vm *vm, uint32_t id, uint64_t gpa, uint64_t len,
		       void *va)
{
	int ret;

	vm_pause(vm);
	ret = slot_set(vm, id, 0, gpa, len, va);
	vm_resume(vm);
	return ret;
}

int mem_slot_add(struct vm *vm, uint64_t gpa, uint64_t len, void *va,
		 struct host_slot **out)
{
	struct vm_mem *m = &vm->mem;
	struct host_slot *s;
	size_t n;
	int ret;

	if (!len || (gpa | len | (uintptr_t)va) % PAGE_SIZE)
		return -EINVAL;
	s = malloc(sizeof(*s));
	if (!s)
		return -ENOMEM;

	pthread_mutex_lock(&m->lock);
	n = bitmap_next_clear(m->slots, BAR_SLOTS, 0);
	*s = (struct host_slot){ BAR_SLOT0 + (uint32_t)n, gpa, len };
	ret = n < BAR_SLOTS ? slot_toggle(vm, s->id, gpa, len, va) : -ENOSPC;
	if (!ret)
		bitmap_set(m->slots, n);
	pthread_mutex_unlock(&m->lock);

	if (ret)
		free(s);
	else
		*out = s;
	return ret;
}

/*
 * KVM returns only when no vCPU can use the old translation any more: it
 * removes the slot, flushes, and waits for readers of the old slot list.
 */
int mem_slot_del(struct vm *vm, struct host_slot *s)
{
	struct vm_mem *m = &vm->mem;
	int ret;

	pthread_mutex_lock(&m->lock);
	ret = slot_toggle(vm, s->id, s->gpa, 0, NULL);
	if (!ret)
		bitmap_clear(m->slots, s->id - BAR_SLOT0);
	pthread_mutex_unlock(&m->lock);
	if (!ret)
		free(s);
	return ret;
}

void mem_mark(struct vm *vm, uint64_t gpa, uint64_t len)
{
	const struct host_ram *r = find(&vm->mem, gpa, len);
	uint64_t first;

	if (!r || !len || !atomic_load(&vm->mem.logging))
		return;
	first = page_index(r, gpa);
	bitmap_set_range_atomic(vm->mem.marked, first,
				page_index(r, gpa + len - 1) - first + 1);
}

uint64_t vm_pages(struct vm *vm)
{
	return vm->mem.pages;
}

gpa_t vm_page_gpa(struct vm *vm, uint64_t page)
{
	const struct host_ram *r = vm->mem.ram;
	uint64_t off = page << PAGE_SHIFT;

	if (off >= r->size)
		off += RAM_HIGH - r->size;
	return (gpa_t){ off };
}

void *vm_page_ptr(struct vm *vm, uint64_t page)
{
	return (char *)vm->mem.ram[0].guest + (page << PAGE_SHIFT);
}

int vm_dirty_start(struct vm *vm)
{
	struct vm_mem *m = &vm->mem;
	int ret;

	if (atomic_load(&m->logging))
		return -EALREADY;
	memset(m->marked, 0, BITMAP_WORDS(m->pages) * 8);
	atomic_store(&m->logging, true);
	for (uint32_t i = 0; i < m->nram; i++) {
		ret = slot_set(vm, i, KVM_MEM_LOG_DIRTY_PAGES, m->ram[i].gpa.v,
			       m->ram[i].size, m->ram[i].guest);
		if (ret) {
			vm_dirty_stop(vm);
			return ret;
		}
	}
	return 0;
}

/*
 * Cleared in KVM before the caller copies: a write after the clear faults
 * and is logged again, a write before it is in the copy.
 */
int vm_dirty_fetch(struct vm *vm, uint64_t *bitmap)
{
	struct vm_mem *m = &vm->mem;

	for (uint32_t i = 0; i < m->nram; i++) {
		const struct host_ram *r = &m->ram[i];
		uint64_t n = r->size >> PAGE_SHIFT;
		struct kvm_dirty_log get = { .slot = i,
					     .dirty_bitmap = m->scratch };
		struct kvm_clear_dirty_log clear = {
			.slot = i,
			.num_pages = (uint32_t)n,
			.dirty_bitmap = m->scratch,
		};

		if (ioctl(vm->fd, KVM_GET_DIRTY_LOG, &get) < 0 ||
		    ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear) < 0)
			return -errno;
		/* Regions are multiples of 64 pages: whole words. */
		bitmap_harvest(bitmap + r->fd_offset / PAGE_SIZE / 64,
			       m->scratch, n);
	}
	bitmap_harvest(bitmap, m->marked, m->pages);
	return 0;
}

void vm_dirty_stop(struct vm *vm)
{
	struct vm_mem *m = &vm->mem;

	atomic_store(&m->logging, false);
	for (uint32_t i = 0; i < m->nram; i++)
		slot_set(vm, i, 0, m->ram[i].gpa.v, m->ram[i].size,
			 m->ram[i].guest);
}
