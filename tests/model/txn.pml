/* Two-phase commit over three shards' logs, as in broker/transactions.h, txn_job.h and participants.h, with crashes.
 *
 * Shard 0 coordinates one transactional id, which has two transactions, one after the other; their names are 0 and 1. All three
 * shards may take part. What a shard knows is there twice: NOW, in memory, and KEPT, what its disk has. An entry changes NOW
 * when it is appended and KEPT when the disk has it, in the order of the log; a crash makes NOW what KEPT is and forgets the
 * rest of memory. Entries that were written but never synced may survive: then the disk was faster than the news of it.
 *
 * Every step of a shard, of the disk, of the client and of the network is one indivisible action of one process; which comes next is
 * open. Mails wait for as long as they like and overtake each other; DUPLICATES of them come again, LOSSES never come.
 *
 * Shape (-D): CRASHES of a single shard, STOPS of the whole broker (all shards, and all that is under way), DUPLICATES, LOSSES, the
 * number of each; TRANSACTIONS 1 or 2; LOG_ENTRIES; FEW: fewer sets of participants; PREPARES: the client may prepare
 * explicitly; CARELESS: it may name what it has no ack for, or less than it staged. With neither CRASHES nor LOSSES an end with
 * something left undone is an error: nothing stays in doubt. Mutations: -DM_..., each a mistake that has to be found. */

#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef STOPS
#define STOPS 0
#endif
#ifndef DUPLICATES
#define DUPLICATES 0
#endif
#ifndef LOSSES
#define LOSSES 0
#endif
#ifndef TRANSACTIONS
#define TRANSACTIONS 2
#endif
#ifndef LOG_ENTRIES
#define LOG_ENTRIES 2 /* appended and not yet on disk, of a shard; more have to wait */
#endif

#define NOW 0
#define KEPT 1

/* ---- the coordinator's row of the transactional id ---- */
#define EMPTY 0
#define OPEN 1
#define PREPARED_ALL 2
#define COMMITTING 3
#define ABORTING 4
#define COMMITTED 1
#define ABORTED 2
typedef row_type {
    byte state;
    byte open;    /* name + 1; 0: nothing */
    byte shards;  /* that take part, a bit each */
    byte last;    /* name + 1 of what ended last */
    byte outcome;
};
row_type row[2];

#define BIT(s, t) (1 << ((s) * 2 + (t)))

/* ---- participants: [which, shard, name] ---- */
#define NOTHING 0
#define STAGED 1
#define PREPARED 2
#define AT(which, shard, t) ((which) * 6 + (shard) * 2 + (t))
byte part[12];
bool visible[12]; /* its batches were committed here */
byte seen[2];     /* its sequences were used: what comes again is known. A bit for shard * 2 + name */

/* ---- logs ---- */
#define E_OPEN 0
#define E_JOIN 1
#define E_COMMITTING 2
#define E_ABORTING 3
#define E_PREPARED_ALL 4
#define E_END 5
#define E_STAGED 6
#define E_PREPARE 7
#define E_COMMIT 8
#define E_ABORT 9
#define E_COMMIT_HERE 10 /* decides, too */
#define E_ABORT_HERE 11
#define E_NOTE 12 /* an abort of what nobody knows */
#define ENTRY(kind, t, s) ((kind) * 8 + (t) * 4 + (s))
chan wal[3] = [LOG_ENTRIES] of { byte };

/* ---- mails under way: a set of each kind, bit shard * 2 + name ---- */
#define STAGE 0    /* client -> shard */
#define JOIN 1     /* shard -> coordinator */
#define JOIN_YES 2
#define JOIN_NO 3
#define ASK 4      /* of one that has not voted */
#define ASK_VOTED 5
#define ASK_WAIT 6
#define ASK_NO 7
#define PREPARE 8  /* coordinator -> shard */
#define VOTE_YES 9
#define VOTE_NO 10
#define COMMIT 11
#define ABORT 12
#define DONE 13
#define END_COMMIT 14 /* client -> coordinator; shard 0 */
#define END_ABORT 15
#define END_PREPARE 16
#define MAIL_KINDS 17
byte mail[MAIL_KINDS];
#define SENT(kind, s, t) (mail[kind] & BIT(s, t))
#define SEND(kind, s, t) mail[kind] = mail[kind] | BIT(s, t)

/* ---- memory of the coordinator ---- */
#define NO_JOB 0
#define VOTING 1
#define DECIDING 2
#define TELLING 3
#define ENDING 4
#define GOAL_COMMIT 0
#define GOAL_ABORT 1
#define GOAL_PREPARE 2
byte job, goal, answered, job_shards;
bool job_failed;
byte joins;      /* JOINs, a bit for shard * 2 + name, that wait for the disk */
byte unknowns;   /* ASKs that wait until the abort is on disk */
#define HELD_NOT 0
#define HELD_JOB 1     /* answered when the job ends */
#define HELD_LAST 2    /* answered by how it ended, when that is on disk */
#define HELD_ABORT 3   /* answered with "aborted" when that decision is on disk */
byte held;       /* what the client's request waits for */
byte held_for;   /* its name */

/* ---- memory of the participants: a bit for shard * 2 + name ---- */
byte join_asked, join_done, join_refused, must_ask, asked;
byte waiters;    /* the client's request waits for the join and the disk */
byte votes;      /* a yes waits for the disk */
byte dones;      /* a DONE waits for the disk */

/* ---- the client ---- */
#define C_BEGIN 0
#define C_BEGUN 1    /* BEGIN was sent */
#define C_STAGING 2
#define C_ENDING 3
#define C_PREPARING 4
#define C_PREPARED 5
#define C_GONE 6     /* nobody holds this transaction any more; INIT of the next one ends it */
#define C_FINISHED 7
byte client, current;
byte wants[2];  /* shards that it stages on, a bit each */
byte acked;
byte named[2];  /* what its COMMIT says is in the transaction */
byte told[2];   /* how it was answered */
bool wants_abort;
bool abort_sent; /* by anybody who may */

/* ---- what has to be remembered to be checked ---- */
byte decided[2]; /* COMMITTED or ABORTED is on disk: no way back */
byte dropped[2]; /* shards that dropped what was part of a transaction */

byte crashes, stops, duplicates, losses;
byte s, t, e, i; /* of one step */
bool flag;
byte add = 255, add_shard, which;

/* ---- entries ---- */

inline see_commit(w, shard, name) {
    part[AT(w, shard, name)] = NOTHING;
    if
    :: w == NOW ->
        assert(!visible[AT(NOW, shard, name)]);   /* once */
        assert(told[name] != ABORTED);            /* never after "aborted" */
        assert(!(dropped[name] & named[name]));   /* never when another one dropped its part */
        assert((1 << shard) & named[name]);       /* nothing that the client did not name */
    :: else
    fi;
    visible[AT(w, shard, name)] = 1
}

inline see_drop(w, shard, name) {
    if
    :: w == NOW && part[AT(NOW, shard, name)] != NOTHING && !visible[AT(NOW, shard, name)] &&
       (part[AT(NOW, shard, name)] == PREPARED || ((1 << shard) & named[name])) ->
        assert(decided[name] != COMMITTED);       /* what was decided is not dropped */
        assert(told[name] != COMMITTED);
        assert(!(visible[AT(NOW, 0, name)] || visible[AT(NOW, 1, name)] || visible[AT(NOW, 2, name)]));
        dropped[name] = dropped[name] | (1 << shard)
    :: else
    fi;
    part[AT(w, shard, name)] = NOTHING
}

inline row_end(w, how) {
    row[w].last = row[w].open;
    row[w].outcome = how;
    row[w].state = EMPTY;
    row[w].open = 0;
    row[w].shards = 0
}

/* What an entry of a shard's log does. k: kind, n: name, x: the shard that it is about. */
inline apply(w, shard, k, n, x) {
    if
    :: k == E_OPEN ->
        row[w].state = OPEN;
        row[w].open = n + 1;
        row[w].shards = 0
    :: k == E_JOIN -> row[w].shards = row[w].shards | (1 << x)
    :: k == E_COMMITTING -> row[w].state = COMMITTING;
        if
        :: w == KEPT -> assert(decided[n] != ABORTED); decided[n] = COMMITTED
        :: else
        fi
    :: k == E_ABORTING -> row[w].state = ABORTING;
        if
        :: w == KEPT -> assert(decided[n] != COMMITTED); decided[n] = ABORTED
        :: else
        fi
    :: k == E_PREPARED_ALL -> row[w].state = PREPARED_ALL
    :: k == E_END ->
        if
        :: row[w].state == COMMITTING -> row_end(w, COMMITTED)
        :: else -> row_end(w, ABORTED)
        fi
    :: k == E_STAGED ->
        part[AT(w, shard, n)] = STAGED;
        seen[w] = seen[w] | BIT(shard, n);
        if
        :: shard == 0 && row[w].open == n + 1 -> row[w].shards = row[w].shards | 1
        :: else
        fi
    :: k == E_PREPARE -> part[AT(w, shard, n)] = PREPARED
    :: k == E_COMMIT -> see_commit(w, shard, n)
    :: k == E_ABORT -> see_drop(w, shard, n)
    :: k == E_COMMIT_HERE ->
        row_end(w, COMMITTED);
        if
        :: part[AT(w, 0, n)] != NOTHING -> see_commit(w, 0, n)
        :: else
        fi;
        if
        :: w == KEPT -> decided[n] = COMMITTED
        :: else
        fi
    :: k == E_ABORT_HERE ->
        row_end(w, ABORTED);
        see_drop(w, 0, n);
        if
        :: w == KEPT -> decided[n] = ABORTED
        :: else
        fi
    :: else
    fi
}

/* A step appends one entry at most: it says which, and the end of the step does it. */
#define APPEND(shard, k) add_shard = shard; add = k
#define NO_ENTRY 255
#define ROOM(shard) (len(wal[shard]) < LOG_ENTRIES)

/* ---- the coordinator ---- */

#define STATE_IS_OPEN(n) (row[NOW].state == OPEN && row[NOW].open == (n) + 1 && job == NO_JOB)

inline tell_all(kind) {
    i = 0;
    do
    :: i < 3 ->
        if
        :: job_shards & (1 << i) -> SEND(kind, i, row[NOW].open - 1)
        :: else
        fi;
        i++
    :: else -> break
    od;
    i = 0
}

/* what: the goal. Begins at DECIDING, or asks for votes. */
inline job_begin(what) {
    assert(row[NOW].state != PREPARED_ALL || what != GOAL_ABORT || abort_sent); /* as the client says */
    job_shards = row[NOW].shards;
    answered = 0;
    job_failed = 0;
    goal = what;
    if
    :: what == GOAL_ABORT || row[NOW].state == PREPARED_ALL -> job = DECIDING
    :: else -> job = VOTING; tell_all(PREPARE)
    fi
}

inline tell() {
    job = TELLING;
    answered = 0;
    if
    :: goal == GOAL_COMMIT -> tell_all(COMMIT)
    :: else -> tell_all(ABORT)
    fi
}

/* The client hears. */
inline answer(name, how) {
    held = HELD_NOT;
    assert(told[name] == 0 || told[name] == how);
    told[name] = how;
    if
    :: how == COMMITTED -> /* every part of it is visible, and stays so */
        assert(!(named[name] & 1) || visible[AT(KEPT, 0, name)]);
        assert(!(named[name] & 2) || visible[AT(KEPT, 1, name)]);
        assert(!(named[name] & 4) || visible[AT(KEPT, 2, name)])
    :: else ->
        assert(decided[name] != COMMITTED);
        assert(!(visible[AT(NOW, 0, name)] || visible[AT(NOW, 1, name)] || visible[AT(NOW, 2, name)]))
    fi;
    if
    :: current == name && client != C_GONE && client != C_FINISHED -> client = C_FINISHED
    :: else
    fi
}

/* A request to commit, abort or prepare the name t, which is read as `how` (a goal). */
inline on_end(how) {
    if
    :: row[NOW].state == EMPTY && row[NOW].last == t + 1 -> held = HELD_LAST; held_for = t
    :: row[NOW].open == t + 1 && row[NOW].state == OPEN && job == NO_JOB ->
        held_for = t;
        if
        :: how != GOAL_PREPARE && !(row[NOW].shards & 6) -> /* only here: one entry */
            held = HELD_LAST;
            flag = how == GOAL_COMMIT && !(named[t] & 6) &&
                   ((part[AT(NOW, 0, t)] == STAGED) == ((named[t] & 1) != 0));
#ifdef M_UNNAMED_SHARD
            flag = how == GOAL_COMMIT;
#endif
            if
            :: flag -> APPEND(0, E_COMMIT_HERE)
            :: else -> APPEND(0, E_ABORT_HERE)
            fi;
            flag = 0
#ifndef M_UNNAMED_SHARD
        :: how != GOAL_ABORT && ((named[t] & ~row[NOW].shards) & 7) && !(how != GOAL_PREPARE && !(row[NOW].shards & 6)) ->
            held = HELD_JOB;
            job_begin(GOAL_ABORT)
        :: else -> held = HELD_JOB; job_begin(how)
#else
        :: else -> held = HELD_JOB; job_begin(how)
#endif
        fi
    :: row[NOW].open == t + 1 && row[NOW].state == PREPARED_ALL && job == NO_JOB ->
        if
        :: how == GOAL_PREPARE -> /* prepared again: says so */
            if
            :: current == t && client == C_PREPARING -> client = C_PREPARED
            :: else
            fi
        :: else -> held = HELD_JOB; held_for = t; job_begin(how)
        fi
    :: row[NOW].open == t + 1 && job != NO_JOB ->
        if
        :: goal == how -> held = HELD_JOB; held_for = t
        :: how == GOAL_COMMIT && goal == GOAL_ABORT -> held = HELD_ABORT; held_for = t
        :: else /* busy, or too late */
        fi
    :: else /* unknown */
    fi
}

/* ---- crashes ---- */

inline forget_mails_to(shard) {
    /* A reply belongs to a request of the process that is gone; requests that it sent may still come. */
    i = BIT(shard, 0) | BIT(shard, 1);
    mail[JOIN_YES] = mail[JOIN_YES] & ~i;
    mail[JOIN_NO] = mail[JOIN_NO] & ~i;
    mail[ASK_WAIT] = mail[ASK_WAIT] & ~i;
    mail[ASK_NO] = mail[ASK_NO] & ~i;
    join_asked = join_asked & ~i;
    join_done = join_done & ~i;
    join_refused = join_refused & ~i;
    asked = asked & ~i;
    waiters = waiters & ~i;
    votes = votes & ~i;
    dones = dones & ~i;
    must_ask = must_ask & ~i;
    i = 0
}

inline crash(shard) {
    do
    :: wal[shard] ? e
    :: empty(wal[shard]) -> break
    od;
    e = 0;
    forget_mails_to(shard);
    t = 0;
    do
    :: t < 2 ->
        part[AT(NOW, shard, t)] = part[AT(KEPT, shard, t)];
        visible[AT(NOW, shard, t)] = visible[AT(KEPT, shard, t)];
        seen[NOW] = (seen[NOW] & ~BIT(shard, t)) | (seen[KEPT] & BIT(shard, t));
        if
        :: part[AT(NOW, shard, t)] != NOTHING -> must_ask = must_ask | BIT(shard, t)
        :: else
        fi;
        t++
    :: else -> break
    od;
    t = 0;
    if
    :: shard == 0 ->
        row[NOW].state = row[KEPT].state;
        row[NOW].open = row[KEPT].open;
        row[NOW].shards = row[KEPT].shards;
        row[NOW].last = row[KEPT].last;
        row[NOW].outcome = row[KEPT].outcome;
        mail[VOTE_YES] = 0;
        mail[VOTE_NO] = 0;
        mail[DONE] = 0;
        joins = 0;
        unknowns = 0;
        held = HELD_NOT;
        held_for = 0;
        job = NO_JOB;
        goal = 0;
        answered = 0;
        job_shards = 0;
        job_failed = 0;
        if
        :: row[NOW].state == COMMITTING || row[NOW].state == ABORTING -> /* goes on being told */
            job_shards = row[NOW].shards;
            goal = (row[NOW].state == COMMITTING -> GOAL_COMMIT : GOAL_ABORT);
            tell()
        :: else
        fi
    :: else
    fi
}

inline stop_all() {
    e = 0;
    do
    :: e < MAIL_KINDS -> mail[e] = 0; e++
    :: else -> break
    od;
    e = 0;
    crash(1);
    crash(2);
    crash(0)
}

/* ---- one mail: taken out, or left to come again ---- */

inline take(kind) {
    if
    :: mail[kind] = mail[kind] & ~BIT(s, t)
#if DUPLICATES > 0
    :: duplicates < DUPLICATES -> duplicates++
#endif
    fi
}

#define SELECT(set)                                                                                \
    if                                                                                             \
    :: (set) & BIT(0, 0) -> s = 0; t = 0                                                           \
    :: (set) & BIT(1, 0) -> s = 1; t = 0                                                           \
    :: (set) & BIT(2, 0) -> s = 2; t = 0                                                           \
    :: (set) & BIT(0, 1) -> s = 0; t = 1                                                           \
    :: (set) & BIT(1, 1) -> s = 1; t = 1                                                           \
    :: (set) & BIT(2, 1) -> s = 2; t = 1                                                           \
    fi
/* Of a set, those of shards whose log has room. */
#define WITH_ROOM(set)                                                                             \
    ((set) & ((ROOM(0) -> 3 : 0) + (ROOM(1) -> 12 : 0) + (ROOM(2) -> 48 : 0)))
#define HERE part[AT(NOW, s, t)]
#define ON_DISK part[AT(KEPT, s, t)]
#define ME BIT(s, t)

#ifdef M_NO_NAME
#define NAME t = (row[NOW].open > 0 -> row[NOW].open - 1 : t) /* a mail is taken for whatever is open */
#else
#define NAME skip
#endif

/* A row that goes takes its memory along. */
inline forget_participant() {
    join_asked = join_asked & ~ME;
    join_done = join_done & ~ME;
    join_refused = join_refused & ~ME;
    waiters = waiters & ~ME;
    must_ask = must_ask & ~ME
}

/* Sets of shard * 2 + name whose wait is over. */
#define KEPT_OF(x, n) part[AT(KEPT, x, n)]
#define EACH(what) (what(0, 0) + what(1, 0) + what(2, 0) + what(0, 1) + what(1, 1) + what(2, 1))
#ifdef M_ACK_BEFORE_JOIN
#define ACK_OF(x, n) (KEPT_OF(x, n) != NOTHING -> BIT(x, n) : 0)
#else
#define ACK_OF(x, n)                                                                               \
    (KEPT_OF(x, n) != NOTHING && (x == 0 || (join_done & BIT(x, n)) != 0) -> BIT(x, n) : 0)
#endif
#define ACKABLE (waiters & EACH(ACK_OF))
#ifdef M_VOTE_BEFORE_DURABLE
#define VOTE_OF(x, n) BIT(x, n)
#else
#define VOTE_OF(x, n) (KEPT_OF(x, n) == PREPARED -> BIT(x, n) : 0)
#endif
#define VOTABLE (votes & EACH(VOTE_OF))
#ifdef M_DONE_BEFORE_DURABLE
#define DONE_OF(x, n) BIT(x, n)
#else
#define DONE_OF(x, n) (KEPT_OF(x, n) == NOTHING || len(wal[x]) == 0 -> BIT(x, n) : 0)
#endif
#define DONEABLE (dones & EACH(DONE_OF))
#define JOIN_OF(x, n)                                                                              \
    (row[NOW].open != n + 1 || (row[KEPT].shards & (1 << x)) != 0 -> BIT(x, n) : 0)
#define JOINABLE (joins & EACH(JOIN_OF))

#ifdef M_UNNAMED_SHARD
#define VOTES_YES 1 /* does not compare */
#else
#define VOTES_YES ((named[t] & (1 << s)) != 0)
#endif
#ifdef M_COMMITS_UNVOTED
#define MUTATED_UNVOTED || HERE == STAGED
#else
#define MUTATED_UNVOTED
#endif
#ifdef M_NO_IS_YES
#define MUTATED_NO_IS_YES && 0
#else
#define MUTATED_NO_IS_YES
#endif
#ifdef M_LAST_EARLY
#define MUTATED_LAST_EARLY || row[NOW].last == held_for + 1
#define MUTATED_LAST_ROW NOW
#else
#define MUTATED_LAST_EARLY
#define MUTATED_LAST_ROW KEPT
#endif
#ifdef M_VOTES_MISSING
#define VOTED (answered != 0) /* decides when one has voted */
#else
#define VOTED (answered == job_shards)
#endif
#define ALL_DONE (answered == job_shards)
#define IS_UNDECIDED                                                                               \
    (row[NOW].state == OPEN || (row[NOW].state == PREPARED_ALL && goal != GOAL_PREPARE))
#ifdef M_TOLD_BEFORE_DURABLE
#define DECISION_IS_DURABLE 1
#else
#define DECISION_IS_DURABLE (row[KEPT].open == row[NOW].open && row[KEPT].state == row[NOW].state)
#endif
#define END_CAN_COME(kind)                                                                         \
    mail[kind] != 0 && ROOM(0) && (held == HELD_NOT || (mail[kind] & BIT(0, held_for)) != 0)
#define END_COMES(kind, how)                                                                       \
    if                                                                                             \
    :: (mail[kind] & BIT(0, 0)) && (held == HELD_NOT || held_for == 0) -> t = 0                    \
    :: (mail[kind] & BIT(0, 1)) && (held == HELD_NOT || held_for == 1) -> t = 1                    \
    fi;                                                                                            \
    take(kind);                                                                                    \
    NAME;                                                                                          \
    on_end(how)

#define MAILS_OF(n)                                                                                \
    ((mail[0] | mail[1] | mail[2] | mail[3] | mail[4] | mail[5] | mail[6] | mail[7] | mail[8] |    \
      mail[9] | mail[10] | mail[11] | mail[12] | mail[13] | mail[14] | mail[15] | mail[16] |       \
      join_asked | join_done | join_refused | must_ask | asked | waiters | votes | dones | joins | \
      unknowns) & (21 << (n)))

/* When nothing of the first transaction is left anywhere but in the coordinator's memory of how it ended, how it went makes no
 * difference any more: fewer states. */
inline close_books() {
    if
    :: current == 1 && wants[0] != 0 && row[NOW].open != 1 && row[KEPT].open != 1 &&
       MAILS_OF(0) == 0 && part[0] + part[2] + part[4] + part[6] + part[8] + part[10] == 0 &&
       len(wal[0]) + len(wal[1]) + len(wal[2]) == 0 && !(held != HELD_NOT && held_for == 0) ->
        wants[0] = 0;
        named[0] = 0;
        told[0] = 0;
        decided[0] = 0;
        dropped[0] = 0;
        seen[NOW] = seen[NOW] & 42;
        seen[KEPT] = seen[KEPT] & 42;
        visible[0] = 0;
        visible[2] = 0;
        visible[4] = 0;
        visible[6] = 0;
        visible[8] = 0;
        visible[10] = 0
    :: else
    fi
}

/* The entry of this step, if there is one. */
inline take_effect() {
    if
    :: add != NO_ENTRY ->
        if
        :: which == NOW -> wal[add_shard] ! ENTRY(add, t, s)
        :: else
        fi;
        apply(which, add_shard, add, t, s)
    :: else
    fi;
    add = NO_ENTRY;
    add_shard = 0;
    which = NOW;
    s = 0;
    t = 0
}

/* What nothing else can come between to any effect: replies whose entry is on disk by now leave, and the coordinator's job goes
 * on. (Mails are delayed, lost and outlived by crashes as before.) */
inline settle() {
    do
    :: waiters != 0 && ACKABLE != 0 ->
        SELECT(ACKABLE);
        waiters = waiters & ~ME;
        if
        :: client == C_STAGING && current == t -> acked = acked | (1 << s)
        :: else
        fi
    :: must_ask != 0 -> /* after a restart, once */
        SELECT(must_ask);
        must_ask = must_ask & ~ME;
        asked = asked | ME;
        if
        :: HERE == PREPARED -> SEND(ASK_VOTED, s, t)
        :: else -> SEND(ASK, s, t)
        fi
    :: votes != 0 && VOTABLE != 0 ->
        SELECT(VOTABLE);
        votes = votes & ~ME;
        SEND(VOTE_YES, s, t)
    :: dones != 0 && DONEABLE != 0 ->
        SELECT(DONEABLE);
        dones = dones & ~ME;
        SEND(DONE, s, t)
    :: joins != 0 && JOINABLE != 0 ->
        SELECT(JOINABLE);
        joins = joins & ~ME;
        SEND(JOIN_YES, s, t)
    :: unknowns != 0 && len(wal[0]) == 0 ->
        SELECT(unknowns);
        unknowns = unknowns & ~ME;
        SEND(ASK_NO, s, t)
    :: job == VOTING && VOTED ->
        goal = (job_failed -> GOAL_ABORT : goal);
        job = DECIDING
    :: job == DECIDING && IS_UNDECIDED && ROOM(0) ->
        t = row[NOW].open - 1;
        if
        :: goal == GOAL_COMMIT -> APPEND(0, E_COMMITTING)
        :: goal == GOAL_ABORT -> APPEND(0, E_ABORTING)
        :: else -> APPEND(0, E_PREPARED_ALL)
        fi;
        take_effect()
    :: job == DECIDING && !IS_UNDECIDED && DECISION_IS_DURABLE ->
        if
        :: goal == GOAL_PREPARE ->
            job = NO_JOB;
            held = HELD_NOT;
            if
            :: client == C_PREPARING -> client = C_PREPARED
            :: else
            fi
        :: else -> tell()
        fi
    :: job == TELLING && ALL_DONE ->
        job = ENDING;
        if
        :: held == HELD_JOB -> answer(held_for, (goal == GOAL_COMMIT -> COMMITTED : ABORTED))
        :: else
        fi
    :: job == ENDING && ROOM(0) ->
        t = row[NOW].open - 1;
        if
        :: held == HELD_JOB -> answer(held_for, (goal == GOAL_COMMIT -> COMMITTED : ABORTED))
        :: else
        fi;
        APPEND(0, E_END);
        job = NO_JOB;
        goal = 0;
        answered = 0;
        job_shards = 0;
        job_failed = 0;
        take_effect()
    :: held == HELD_LAST && (row[KEPT].last == held_for + 1 MUTATED_LAST_EARLY) ->
        answer(held_for, row[MUTATED_LAST_ROW].outcome)
    :: held == HELD_ABORT && (row[KEPT].last == held_for + 1 ||
       (row[KEPT].open == held_for + 1 && row[KEPT].state == ABORTING)) ->
        answer(held_for, ABORTED)

    :: else -> break
    od
}

#define QUIET                                                                                      \
    (row[NOW].state == EMPTY && row[KEPT].state == EMPTY && job == NO_JOB && held == HELD_NOT &&   \
     part[0] + part[1] + part[2] + part[3] + part[4] + part[5] == 0 &&                             \
     part[6] + part[7] + part[8] + part[9] + part[10] + part[11] == 0 &&                           \
     client == C_FINISHED && current == TRANSACTIONS - 1)

active proctype world()
{
    atomic {
        if /* which shards take part; 1 and 2 are alike */
#ifndef FEW
        :: wants[0] = 1
        :: wants[0] = 2
        :: wants[0] = 7
#endif
        :: wants[0] = 3
        :: wants[0] = 6
        fi;
#if TRANSACTIONS > 1
        if
        :: wants[1] = 2
#ifndef FEW
        :: wants[1] = 1
        :: wants[1] = 3
        :: wants[1] = 6
#endif
        fi
#endif
    }
    do
    :: atomic {
        which = NOW;
        if
        /* ---- the client ---- */
        :: client == C_BEGIN && row[NOW].state == EMPTY && ROOM(0) ->
            t = current;
            APPEND(0, E_OPEN);
            client = C_BEGUN
        :: client == C_BEGUN && row[NOW].open != current + 1 && row[NOW].last != current + 1 ->
            client = C_BEGIN /* lost in a crash */
        :: client == C_BEGUN && row[NOW].last == current + 1 ->
            client = C_FINISHED /* its deadline was faster */
        :: client == C_BEGUN && row[KEPT].open == current + 1 ->
            client = C_STAGING
        :: client == C_STAGING && wants[current] != acked -> /* also again, when it was not answered */
            flag = 0;
            do
            :: i < 3 && (wants[current] & ~acked & (1 << i)) && !SENT(STAGE, i, current) &&
               !(waiters & BIT(i, current)) && part[AT(NOW, i, current)] == NOTHING &&
               !(seen[NOW] & BIT(i, current)) ->
                SEND(STAGE, i, current);
                flag = 1;
                break
            :: i < 3 && (wants[current] & ~acked & (1 << i)) && !SENT(STAGE, i, current) &&
               !(waiters & BIT(i, current)) && part[AT(NOW, i, current)] == STAGED ->
                SEND(STAGE, i, current);
                flag = 1;
                break
            :: i < 3 -> i++
            :: i == 3 -> break
            od;
            if
            :: !flag -> client = C_ENDING; wants_abort = 1; SEND(END_ABORT, 0, current)
            :: else
            fi
        :: client == C_STAGING && acked == wants[current] ->
            named[current] = acked;
            wants_abort = 0;
            client = C_ENDING;
            SEND(END_COMMIT, 0, current)
#ifdef CARELESS
        :: client == C_STAGING && acked != wants[current] -> /* names less, or more, than it was acked */
            if
            :: named[current] = acked
            :: named[current] = wants[current]
            fi;
            wants_abort = 0;
            client = C_ENDING;
            SEND(END_COMMIT, 0, current)
#endif
#ifdef PREPARES
        :: client == C_STAGING && acked == wants[current] ->
            named[current] = acked;
            client = C_PREPARING;
            SEND(END_PREPARE, 0, current)
        :: client == C_PREPARED -> /* the client, or its successor, by name */
            if
            :: wants_abort = 0; SEND(END_COMMIT, 0, current)
            :: wants_abort = 1; abort_sent = 1; SEND(END_ABORT, 0, current)
            fi;
            client = C_ENDING
        :: client == C_PREPARING && !SENT(END_PREPARE, 0, current) && held == HELD_NOT ->
            SEND(END_PREPARE, 0, current)
        :: client == C_GONE && row[NOW].state == PREPARED_ALL && job == NO_JOB ->
            client = C_PREPARED
#endif
        :: client == C_ENDING && !SENT(END_COMMIT, 0, current) && !SENT(END_ABORT, 0, current) &&
           held == HELD_NOT -> /* cut off from its answer: asks again */
            if
            :: wants_abort -> SEND(END_ABORT, 0, current)
            :: else -> SEND(END_COMMIT, 0, current)
            fi
        :: client >= C_BEGUN && client <= C_PREPARED -> /* it dies; what it sent may still come */
            client = C_GONE
        :: client == C_GONE && row[NOW].state == EMPTY -> /* TXN_INIT of its successor */
            client = C_FINISHED
        :: client == C_FINISHED && current + 1 < TRANSACTIONS && row[NOW].state == EMPTY ->
            current++;
            acked = 0;
            abort_sent = 0;
            client = C_BEGIN

        /* ---- participants ---- */
        :: WITH_ROOM(mail[STAGE]) != 0 ->
            SELECT(WITH_ROOM(mail[STAGE]));
            take(STAGE);
            NAME;
            if
            :: s == 0 && !STATE_IS_OPEN(t)
            :: (join_refused & ME) || HERE == PREPARED
            :: else ->
                if
                :: HERE == NOTHING && !(seen[NOW] & ME) -> APPEND(s, E_STAGED)
                :: else
                fi;
                if
                :: HERE == STAGED || add == E_STAGED ->
                    waiters = waiters | ME;
                    if
                    :: s > 0 && !((join_asked | join_done) & ME) ->
                        SEND(JOIN, s, t);
                        join_asked = join_asked | ME
                    :: else
                    fi
                :: else
                fi
            fi
        :: mail[JOIN_YES] != 0 ->
            SELECT(mail[JOIN_YES]);
            take(JOIN_YES);
            if
            :: (join_asked & ME) && HERE != NOTHING -> join_done = join_done | ME
            :: else
            fi;
            join_asked = join_asked & ~ME
        :: mail[JOIN_NO] != 0 ->
            SELECT(mail[JOIN_NO]);
            take(JOIN_NO);
            if
            :: (join_asked & ME) && !(join_done & ME) && HERE != NOTHING ->
                join_refused = join_refused | ME
            :: else
            fi;
            join_asked = join_asked & ~ME
        :: mail[ASK_WAIT] != 0 ->
            SELECT(mail[ASK_WAIT]);
            take(ASK_WAIT);
            asked = asked & ~ME
        :: mail[ASK_NO] != 0 ->
            SELECT(mail[ASK_NO]);
            take(ASK_NO);
            if
            :: (asked & ME) && HERE != NOTHING -> join_refused = join_refused | ME
            :: else
            fi;
            asked = asked & ~ME
        :: WITH_ROOM(join_refused) != 0 -> /* drops what it has */
            SELECT(WITH_ROOM(join_refused));
            APPEND(s, E_ABORT);
            forget_participant()
        :: WITH_ROOM(mail[PREPARE]) != 0 ->
            SELECT(WITH_ROOM(mail[PREPARE]));
            take(PREPARE);
            NAME;
            if
            :: HERE == PREPARED -> votes = votes | ME
            :: HERE == STAGED && !(join_refused & ME) && VOTES_YES ->
                APPEND(s, E_PREPARE);
                join_done = join_done | ME;
                votes = votes | ME
            :: else -> SEND(VOTE_NO, s, t)
            fi
        :: WITH_ROOM(mail[COMMIT]) != 0 ->
            SELECT(WITH_ROOM(mail[COMMIT]));
            take(COMMIT);
            NAME;
            if
            :: HERE == PREPARED MUTATED_UNVOTED -> APPEND(s, E_COMMIT); forget_participant()
            :: else
            fi;
            dones = dones | ME
        :: WITH_ROOM(mail[ABORT]) != 0 ->
            SELECT(WITH_ROOM(mail[ABORT]));
            take(ABORT);
            NAME;
            if
            :: HERE != NOTHING -> APPEND(s, E_ABORT); forget_participant()
            :: else
            fi;
            dones = dones | ME
#ifdef M_COMMITS_ALONE
        :: (must_ask | asked) != 0 -> /* a participant that was restarted does not wait for the answer */
            SELECT(must_ask | asked);
            must_ask = must_ask & ~ME;
            if
            :: HERE == PREPARED && ROOM(s) -> APPEND(s, E_COMMIT); forget_participant()
            :: else
            fi
#endif
#ifdef M_ABORTS_ALONE
        :: (must_ask | asked) != 0 ->
            SELECT(must_ask | asked);
            must_ask = must_ask & ~ME;
            if
            :: HERE == PREPARED && ROOM(s) -> APPEND(s, E_ABORT); forget_participant()
            :: else
            fi
#endif

        /* ---- the coordinator ---- */
        :: mail[JOIN] != 0 && ROOM(0) ->
            SELECT(mail[JOIN]);
            take(JOIN);
            NAME;
            if
            :: STATE_IS_OPEN(t) ->
                if
                :: !(row[NOW].shards & (1 << s)) -> APPEND(0, E_JOIN)
                :: else
                fi;
                joins = joins | ME
#ifdef M_JOIN_UNKNOWN
            :: !STATE_IS_OPEN(t) -> SEND(JOIN_YES, s, t)
#else
            :: else -> SEND(JOIN_NO, s, t)
#endif
            fi
        :: (mail[ASK] | mail[ASK_VOTED]) != 0 && ROOM(0) ->
            SELECT(mail[ASK] | mail[ASK_VOTED]);
            flag = (mail[ASK_VOTED] & ME) != 0;
            if
            :: flag -> take(ASK_VOTED)
            :: else -> take(ASK)
            fi;
            NAME;
            if
            :: row[NOW].open != t + 1 -> APPEND(0, E_NOTE); unknowns = unknowns | ME
            :: row[NOW].open == t + 1 && !(row[NOW].shards & (1 << s)) ->
                if
                :: STATE_IS_OPEN(t) -> APPEND(0, E_JOIN); SEND(ASK_WAIT, s, t)
                :: else -> SEND(ASK_NO, s, t)
                fi
            :: else ->
#ifdef M_PRESUMES_UNDECIDED
                if
                :: flag && STATE_IS_OPEN(t) -> SEND(ASK_NO, s, t) /* and does not decide */
                :: else -> SEND(ASK_WAIT, s, t)
                fi
#else
                if
                :: flag && STATE_IS_OPEN(t) -> job_begin(GOAL_ABORT) /* a vote, and no decision */
                :: else
                fi;
                SEND(ASK_WAIT, s, t)
#endif
            fi
        :: (mail[VOTE_YES] | mail[VOTE_NO]) != 0 ->
            SELECT(mail[VOTE_YES] | mail[VOTE_NO]);
            flag = (mail[VOTE_NO] & ME) != 0;
            if
            :: flag -> take(VOTE_NO)
            :: else -> take(VOTE_YES)
            fi;
            NAME;
            if
            :: job == VOTING && row[NOW].open == t + 1 && !(answered & (1 << s)) ->
                answered = answered | (1 << s);
                if
                :: flag MUTATED_NO_IS_YES -> job_failed = 1
                :: else
                fi
            :: else
            fi
        :: mail[DONE] != 0 ->
            SELECT(mail[DONE]);
            take(DONE);
            NAME;
            if
            :: job == TELLING && row[NOW].open == t + 1 -> answered = answered | (1 << s)
            :: else
            fi
#ifdef M_END_EARLY
        :: job == TELLING && ROOM(0) -> job = ENDING /* before all have done it */
#endif
#ifdef M_DEADLINE_OF_DECIDED
        :: row[NOW].state == COMMITTING && ROOM(0) && job == TELLING ->
            t = row[NOW].open - 1;
            APPEND(0, E_ABORTING);
            goal = GOAL_ABORT;
            job = DECIDING
#endif
        :: row[NOW].state == OPEN && job == NO_JOB -> /* its deadline passes, or TXN_INIT */
            job_begin(GOAL_ABORT)
#ifdef M_DEADLINE_OF_PREPARED
        :: row[NOW].state == PREPARED_ALL && job == NO_JOB -> job_begin(GOAL_ABORT)
#endif
        :: END_CAN_COME(END_COMMIT) -> END_COMES(END_COMMIT, GOAL_COMMIT)
        :: END_CAN_COME(END_ABORT) -> END_COMES(END_ABORT, GOAL_ABORT)
        :: END_CAN_COME(END_PREPARE) -> END_COMES(END_PREPARE, GOAL_PREPARE)
#ifdef M_ANSWERED_AT_DECISION
        :: job == TELLING && held == HELD_JOB ->
            answer(held_for, (goal == GOAL_COMMIT -> COMMITTED : ABORTED))
#endif
        /* ---- the disk ---- */
        :: len(wal[0]) + len(wal[1]) + len(wal[2]) > 0 ->
            if
            :: nempty(wal[0]) -> add_shard = 0
            :: nempty(wal[1]) -> add_shard = 1
            :: nempty(wal[2]) -> add_shard = 2
            fi;
            wal[add_shard] ? e;
            add = e / 8;
            t = (e / 4) % 2;
            s = e % 4;
            which = KEPT

        /* ---- what goes wrong ---- */
#if CRASHES > 0
        :: crashes < CRASHES ->
            crashes++;
            if
            :: crash(0)
            :: crash(1)
            :: crash(2)
            fi
        :: crashes < CRASHES -> crashes = CRASHES
#endif
#if STOPS > 0
        :: stops < STOPS -> stops++; stop_all()
        :: stops < STOPS -> stops = STOPS /* no more of it */
#endif
#if LOSSES > 0
        :: losses < LOSSES ->
            losses++;
            e = 0;
            do
            :: e < MAIL_KINDS - 1 -> e++
            :: mail[e] != 0 -> SELECT(mail[e]); mail[e] = mail[e] & ~ME; break
            :: e == MAIL_KINDS - 1 && mail[e] == 0 -> break
            od
#endif
        :: else ->
#if CRASHES == 0 && LOSSES == 0
            assert(QUIET);
#endif
            break
        fi;
        take_effect();
        settle();
        close_books();
        s = 0;
        t = 0;
        e = 0;
        i = 0;
        flag = 0
    }
    od
}
