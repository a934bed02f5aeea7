/*
 * What the control socket of any machine answers; docs/control.md.
 */
#include <stdlib.h>
#include <errno.h>

#include "base/trace.h"
#include "base/util.h"
#include "machine/priv.h"

#define STOP_CHECK_NS 100000000ull

static int do_status(void *opaque, struct ctl_call *c, const json_t *params,
		     json_t **result, struct err *e)
{
	*result = machine_status(opaque);
	return 0;
}

static int do_console(void *opaque, struct ctl_call *c, const json_t *params,
		      json_t **result, struct err *e)
{
	struct machine *m = opaque;
	int fd;

	if (console_full(m->console))
		return err_set(e, -EBUSY,
			       "too many terminals have its console already: "
			       "disconnect one");
	fd = ctl_take_fd(c);
	if (fd >= 0)
		console_attach(m->console, fd);
	return CTL_LATER;
}

void machine_stops_tell(struct machine *m, const char *how)
{
	for (unsigned int i = 0; i < STOPS_MAX; i++) {
		if (!m->stop[i].call)
			continue;
		ctl_reply(m->stop[i].call, json_pack("{s:s}", "end", how));
		m->stop[i].call = NULL;
	}
}

static void on_stop_timer(void *opaque)
{
	struct machine *m = opaque;
	unsigned int waiting = 0;

	for (unsigned int i = 0; i < STOPS_MAX; i++) {
		struct err e = { 0 };

		if (!m->stop[i].call)
			continue;
		if (now_ns() < m->stop[i].until_ns) {
			waiting++;
			continue;
		}
		err_set(&e, -ETIMEDOUT,
			"the guest has not powered off in that time; it may "
			"not listen to its power button: 'pagurus stop "
			"--force %s' pulls the plug",
			m->cfg.name);
		ctl_fail(m->stop[i].call, -ETIMEDOUT, &e);
		m->stop[i].call = NULL;
	}
	if (!waiting) {
		loop_remove(m->stop_timer);
		m->stop_timer = NULL;
	}
}

static int do_stop(void *opaque, struct ctl_call *c, const json_t *params,
		   json_t **result, struct err *e)
{
	struct machine *m = opaque;
	const json_t *limit = json_object_get(params, "timeout_ms");
	json_int_t ms = limit ? json_integer_value(limit) : 30000;
	unsigned int i = 0;

	while (i < STOPS_MAX && m->stop[i].call)
		i++;
	if (i == STOPS_MAX)
		return err_set(e, -EBUSY, "others wait for the same already");
	if ((limit && !json_is_integer(limit)) || ms < 0 || ms > 86400000)
		return err_set(e, -EINVAL, "timeout_ms: 0 to 86400000");
	if (json_is_true(json_object_get(params, "force"))) {
		machine_quit(m, 0);
	} else {
		if (!m->started)
			return err_set(e, -ENODATA,
				       "there is no guest yet that could power "
				       "off");
		vm_power_button(m->vm);
		if (!m->stop_timer)
			loop_add_timer(m->loop, STOP_CHECK_NS, STOP_CHECK_NS,
				       on_stop_timer, m, &m->stop_timer);
	}
	m->stop[i].call = c;
	m->stop[i].until_ns = now_ns() + (uint64_t)ms * 1000000;
	return CTL_LATER;
}

static int do_trace(void *opaque, struct ctl_call *c, const json_t *params,
		    json_t **result, struct err *e)
{
	char *text = trace_json(machine_trace(opaque));

	*result = text ? json_loads(text, 0, NULL) : NULL;
	free(text);
	return *result ? 0 : err_sys(e, -ENOMEM, "trace");
}

const struct ctl_method machine_methods[] = {
	{ "status", "everything there is to know, as one object", do_status },
	{ "trace", "the last mailbox events of its devices", do_trace },
	{ "console", "the connection becomes the guest's serial console",
	  do_console },
	{ "stop",
	  "press the power button and wait {timeout_ms}; {force}: pull the "
	  "plug",
	  do_stop },
	{ NULL, NULL, NULL },
};
