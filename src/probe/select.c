#include "probe/select.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "probe/maps.h"

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static struct module *add(struct selection *s)
{
	void *p = reallocarray(s->mod, s->nmod + 1, sizeof(*s->mod));

	if (!p)
		return NULL;
	s->mod = p;
	memset(&s->mod[s->nmod], 0, sizeof(*s->mod));
	return &s->mod[s->nmod++];
}

/* Where the file's addresses ended up, from one executable mapping. */
static bool find_bias(const struct image *im, const struct maps_line *l,
		      uint64_t *bias)
{
	for (size_t i = 0; i < im->nseg; i++) {
		const struct image_segment *g = &im->seg[i];

		if (!g->exec || ALIGN_DOWN(g->offset, PAGE_SIZE) != l->offset)
			continue;
		*bias = l->lo - ALIGN_DOWN(g->addr, PAGE_SIZE);
		return true;
	}
	return false;
}

/*
 * The path as the process sees it may be another file here, or none: its
 * root may differ, the file may have been replaced.
 */
static int open_module(struct image **im, int pid, const char *path,
		       bool program, struct err *e)
{
	char alias[MAPS_PATH + 32];

	if (program)
		snprintf(alias, sizeof(alias), "/proc/%d/exe",
			 pid ? pid : getpid());
	else
		snprintf(alias, sizeof(alias), "/proc/%d/root%s",
			 pid ? pid : getpid(), path);
	return image_open(im, alias, e);
}

/* What was stripped may have its names elsewhere; if not, so be it. */
static void add_debug_symbols(struct image *im)
{
	char path[MAPS_PATH];

	if (!image_debug_file(im, NULL, path, sizeof(path)))
		(void)image_add_symbols(im, path, NULL);
}

static int is_program(int pid, const char *path)
{
	char link[64], exe[MAPS_PATH];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%d/exe", pid ? pid : getpid());
	n = readlink(link, exe, sizeof(exe) - 1);
	if (n < 0)
		return -errno;
	exe[n] = '\0';
	return !strcmp(exe, path);
}

static struct module *known(struct selection *s, const char *path)
{
	for (size_t i = 0; i < s->nmod; i++)
		if (!strcmp(s->mod[i].im->path, path))
			return &s->mod[i];
	return NULL;
}

static int add_mapping(struct selection *s, int pid, const struct maps_line *l,
		       struct err *e)
{
	int program = is_program(pid, l->path);
	struct module *m = known(s, l->path);
	struct err ignored = { 0 };
	struct image *im;
	uint64_t bias;
	int ret;

	if (m) {
		m->hi = MAX(m->hi, l->hi);
		return 0;
	}
	ret = open_module(&im, pid, l->path, program > 0,
			  program > 0 ? e : &ignored);
	if (ret < 0)
		return program > 0 ? ret : 0; /* a data file, say */
	add_debug_symbols(im);
	if (!find_bias(im, l, &bias)) {
		image_close(im);
		return 0;
	}
	m = add(s);
	if (!m) {
		image_close(im);
		return -ENOMEM;
	}
	free(im->path);
	im->path = strdup(l->path);
	if (!im->path) {
		image_close(im);
		s->nmod--;
		return -ENOMEM;
	}
	m->im = im;
	m->lo = l->lo;
	m->hi = l->hi;
	m->bias = bias;
	m->name = last_part(im->path);
	if (program > 0 && s->nmod > 1) {
		struct module first = s->mod[0];

		s->mod[0] = *m;
		*m = first;
	}
	return 0;
}

int selection_of_process(struct selection *s, int pid, struct err *e)
{
	struct maps_line l;
	struct maps m;
	int ret;

	memset(s, 0, sizeof(*s));
	ret = maps_open(&m, pid);
	if (ret < 0)
		return err_sys(e, ret, "process %d", pid);
	while (!ret && maps_next(&m, &l))
		if (l.exec && l.path[0] == '/')
			ret = add_mapping(s, pid, &l, e);
	maps_close(&m);
	if (!ret && !s->nmod)
		ret = err_set(e, -ENOENT,
			      "process %d: no program is mapped; a kernel"
			      " thread, or it has ended",
			      pid);
	if (ret < 0)
		selection_close(s);
	return ret;
}

int selection_of_file(struct selection *s, const char *path, struct err *e)
{
	struct module *m;
	int ret;

	memset(s, 0, sizeof(*s));
	m = add(s);
	if (!m)
		return -ENOMEM;
	ret = image_open(&m->im, path, e);
	if (ret < 0) {
		selection_close(s);
		return ret;
	}
	add_debug_symbols(m->im);
	m->hi = UINT64_MAX;
	m->name = last_part(m->im->path);
	return 0;
}

void selection_close(struct selection *s)
{
	for (size_t i = 0; i < s->nmod; i++) {
		finder_close(&s->mod[i].finder);
		image_close(s->mod[i].im);
	}
	free(s->mod);
	memset(s, 0, sizeof(*s));
}

/* By any of its names: aliases share one function. */
static int each_name(struct module *m, const char *glob, uint8_t *seen,
		     selection_fn fn, void *opaque, struct err *e)
{
	int found = 0, ret;

	for (size_t i = 0; i < m->im->nsym + m->finder.n; i++) {
		bool sym = i < m->im->nsym;
		const struct image_symbol *s = &m->im->sym[i];
		struct probe_func *f =
			sym ? NULL : &m->finder.func[i - m->im->nsym];
		size_t at;

		if (fnmatch(glob, sym ? s->name : f->name, 0))
			continue;
		if (sym)
			f = finder_exact(&m->finder, s->addr);
		if (!f)
			continue;
		found++;
		at = (size_t)(f - m->finder.func);
		if (seen[at])
			continue;
		seen[at] = 1;
		if (!f->nsite) {
			ret = finder_sites(&m->finder, f);
			if (ret < 0)
				return ret;
		}
		/* The name that was asked for, if it was asked plainly. */
		if (sym && f->named && !strpbrk(glob, "*?["))
			f->name = s->name;
		ret = fn(m, f, opaque, e);
		if (ret < 0)
			return ret;
	}
	return found;
}

static int each_module(struct selection *s, const char *file, const char *glob,
		       uint8_t **seen, selection_fn fn, void *opaque,
		       struct err *e)
{
	int found = 0, ret;

	for (size_t i = 0; i < s->nmod; i++) {
		struct module *m = &s->mod[i];

		if (file ? fnmatch(file, m->name, 0) : i > 0)
			continue;
		if (!m->searched) {
			ret = finder_open(&m->finder, m->im, e);
			if (ret < 0)
				return ret;
			m->searched = true;
		}
		if (!seen[i]) {
			seen[i] = calloc(m->finder.n + 1, 1);
			if (!seen[i])
				return -ENOMEM;
		}
		ret = each_name(m, glob, seen[i], fn, opaque, e);
		if (ret < 0)
			return ret;
		found += ret;
	}
	return found;
}

int selection_each(struct selection *s, const char *patterns, selection_fn fn,
		   void *opaque, struct err *e)
{
	char *copy = strdup(patterns), *save = NULL, *p;
	uint8_t **seen = calloc(s->nmod + 1, sizeof(*seen));
	int ret = copy && seen ? 0 : -ENOMEM;

	for (p = ret ? NULL : strtok_r(copy, ",", &save); p;
	     p = strtok_r(NULL, ",", &save)) {
		char *colon = strchr(p, ':');
		/* C++ names have colons too, but in pairs. */
		bool has_file = colon && colon[1] != ':';
		const char *glob = has_file ? colon + 1 : p;

		if (has_file)
			*colon = '\0';
		ret = each_module(s, has_file ? p : NULL, glob, seen, fn,
				  opaque, e);
		if (ret < 0)
			break;
		if (!ret) {
			ret = err_set(e, -ENOENT,
				      "no function '%s' in %s; see them with"
				      " --list '*'",
				      glob, has_file ? p : s->mod[0].name);
			break;
		}
		ret = 0;
	}
	for (size_t i = 0; seen && i < s->nmod; i++)
		free(seen[i]);
	free(seen);
	free(copy);
	return ret;
}

static int give(struct module *m, struct probe_func *fn, void *opaque,
		struct err *e)
{
	int ret = engine_add_func(opaque, fn, m->name, m->bias, e);

	return ret < 0 ? ret : 0;
}

int selection_apply(struct selection *s, const char *patterns,
		    struct engine *en, struct err *e)
{
	for (size_t i = 0; i < s->nmod; i++) {
		struct module *m = &s->mod[i];
		int ret = engine_add_image(en, m->im, m->lo, m->hi, m->bias);

		if (ret < 0)
			return ret;
	}
	return selection_each(s, patterns, give, en, e);
}
