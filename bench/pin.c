#include "pin.h"

#include <dirent.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int cpu[CPU_SETSIZE];
static unsigned int ncpus;

/* Once: what is pinned hands its one CPU on to its children. */
static void find_cpus(void)
{
	cpu_set_t set;

	if (ncpus || sched_getaffinity(0, sizeof(set), &set) < 0)
		return;
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &set))
			cpu[ncpus++] = i;
}

static bool is_vcpu(const char *task)
{
	char path[300], name[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%s/comm", task);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (!fgets(name, sizeof(name), f))
		name[0] = '\0';
	fclose(f);
	return !strncmp(name, "vcpu", 4);
}

void pin_threads(void)
{
	DIR *d = opendir("/proc/self/task");
	unsigned int dealt = 0;
	struct dirent *e;

	find_cpus();
	while (d && ncpus > 1 && (e = readdir(d))) {
		cpu_set_t one;

		if (e->d_name[0] == '.')
			continue;
		CPU_ZERO(&one);
		CPU_SET(is_vcpu(e->d_name) ? cpu[dealt++ % (ncpus - 1)]
					   : cpu[ncpus - 1],
			&one);
		sched_setaffinity(atoi(e->d_name), sizeof(one), &one);
	}
	if (d)
		closedir(d);
}
