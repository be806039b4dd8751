/*
 * fuzz_request.c
 *	  A request from its bytes to its answer, with doubles below dispatch.
 *
 * First byte: which RPC; second: who asks, and how what is below behaves; the
 * rest is the message.  Checked: each request is answered exactly once, only
 * after authorize() was asked unless with an error; what is submitted can be
 * decoded by the members who will apply it; no version stays pinned.
 */
/* needs: dispatch command alarm/alarm lease/clock lease/renewal common proto */
#include "server.h"

/* lib and utils */
#include "utils/elog.h"

#include "../unit/dispatch_doubles.h"

/* bits of the second byte */
#define HOW_AUTH_ENABLED 0x01
#define HOW_TOKEN 0x02
#define HOW_BAD_TOKEN 0x04
#define HOW_BARRIER 0x08
#define HOW_CANCEL 0x10
#define HOW_FAILS 0x20
#define HOW_EXPIRES 0x40

static void
check(bool condition)
{
	if (!condition)
		abort();
}

static const char *
who(uint8_t how)
{
	if (how & HOW_BAD_TOKEN)
		return "bad";
	return how & HOW_TOKEN ? "root" : NULL;
}

/* whatever it waits for comes, until it is answered */
static void
play_on(uint8_t how)
{
	int			rounds = 0;

	while (world.req != NULL && world.answer.n == 0)
	{
		Completion	done = {.revision = 43,.index = 9};

		check(dispatch_outstanding() == 1);
		/* some ask the log again and again, or wait for the store: they end here */
		if ((how & HOW_CANCEL) || ++rounds > 20)
		{
			dispatch_cancel(world.req);
			world.req = NULL;
			break;
		}
		if (how & HOW_EXPIRES)
			dispatch_expire(INT64_MAX);
		else if (world.job != NULL)
			double_hash_done((how & HOW_FAILS) == 0);
		else
		{
			if (how & HOW_FAILS)
				done.error = ERR_KEY_NOT_FOUND;
			if (world.kind == SUBMIT_LOGOP)
				(void) double_submitted_op();
			double_complete(&done);
		}
	}
	if (world.job != NULL)
		double_hash_done(true);
}

extern int	LLVMFuzzerInitialize(int *argc, char ***argv);
extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	elog_set_level(LOG_LEVEL_FATAL);
	dispatch_init();
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t		how;
	RpcId		id;

	if (size < 2)
		return 0;
	how = data[1];
	id = (RpcId) (1 + data[0] % (RPC_COUNT - 1));
	/*
	 * Streams do not end by themselves, and Lock and Campaign wait for others:
	 * what comes in on them is fuzzed by fuzz_grpc.
	 */
	if (rpc_info(id)->kind != RPC_UNARY ||
		rpc_info(id)->service[0] == 'v')
		return 0;
	double_reset();
	/* what is submitted is kept whole, so that it can be decoded */
	guc_max_request_bytes = sizeof(world.payload);
	world.version.auth_enabled = (how & HOW_AUTH_ENABLED) != 0;
	atomic_store(&world.raft.reads_are_local, (how & HOW_BARRIER) == 0);
	double_send_bytes(id, who(how),
					  bytes_make(data + 2, size - 2));
	play_on(how);
	check(world.answer.n == 1 || (world.answer.n == 0 && world.req == NULL));
	check(world.answer.n == 0 || world.answer.error != ERR_NONE ||
		  world.nauthorized > 0);
	check(world.answer.error != ERR_INTERNAL ||
		  strncmp(world.answer.text, "grpc: ", 6) == 0);
	check(world.pins == 0);
	check(dispatch_outstanding() == 0);
	return 0;
}
