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
 * number of each; TRANSACTIONS 1 or 2; LOG_ENTRIES; FEW: fewer sets of participants, or FIRST and SECOND: the one of each
 * transaction, a bit for each shard; PREPARES: the client may prepare explicitly; CARELESS: it may name what it has no ack for, or less
 * than it staged; STEADY: it does not die, and no deadline passes. With neither CRASHES nor LOSSES an end with something left undone is an
 * error: nothing stays in doubt. Mutations: -DM_..., each a mistake that has to be found.
 *
 * SIDE_BY_SIDE: two transactional ids with one transaction each, at the same time; shard 0 coordinates the one, shard 1 the other.
 *
 * Fewer states, for larger searches. LOG_ENTRIES=0: the disk is foreseen (below). TIDY: what nobody will look at again is forgotten,
 * and shards 1 and 2, which are alike, are not told apart.
 *
 * A foreseen disk has an entry at once, or never. An entry that comes later only holds back replies, and a mail may take its time
 * anyway; nothing waits for an entry to be missing. So what is left to choose is at which entry a shard is doomed: from there on
 * its disk takes nothing more, its memory goes on, and what it sends without waiting for its disk leaves; then it crashes. */

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
#define LOG_ENTRIES 2 /* appended and not yet on disk, of a shard; more have to wait. 0: foreseen */
#endif
#if LOG_ENTRIES == 0
#define FORESEEN
#endif
#ifdef SIDE_BY_SIDE
#define IDS 2
#define ID(t) (t)      /* of a name */
#define HOME id        /* the shard that coordinates */
#define COORDINATOR(t) (t)
#define OF(t) id = t
#else
#define IDS 1
#define ID(t) 0
#define id 0
#define HOME 0
#define COORDINATOR(t) 0
#define OF(t) skip
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
row_type row[2 * IDS];
#define ROW_OF(w, t) row[(w) * IDS + ID(t)]
#define ROW(w) row[(w) * IDS + id]

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
#ifndef FORESEEN
chan wal[3] = [LOG_ENTRIES] of { byte };
#define ROOM(shard) (len(wal[shard]) < LOG_ENTRIES)
#define IS_SYNCED(shard) (len(wal[shard]) == 0)
#define STOP_IS_AVOIDABLE true
#define BOOKS_ARE_SYNCED ALL_SYNCED
#define ALL_SYNCED (len(wal[0]) + len(wal[1]) + len(wal[2]) == 0)
#else
byte doomed; /* shards whose disk takes nothing more before they crash, a bit each */
#define ROOM(shard) true
#define IS_SYNCED(shard) (!(doomed & (1 << (shard))))
#define ALL_SYNCED (doomed == 0)
#define STOP_IS_AVOIDABLE (doomed == 0)
#define BOOKS_ARE_SYNCED true /* what is not on disk by now shows in KEPT */
#endif

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
byte job[IDS], goal[IDS], answered[IDS], job_shards[IDS];
bool job_failed[IDS];
byte joins;      /* JOINs, a bit for shard * 2 + name, that wait for the disk */
byte unknowns;   /* ASKs that wait until the abort is on disk */
#define HELD_NOT 0
#define HELD_JOB 1     /* answered when the job ends */
#define HELD_LAST 2    /* answered by how it ended, when that is on disk */
#define HELD_ABORT 3   /* answered with "aborted" when that decision is on disk */
byte held[IDS];     /* what the client's request waits for */
byte held_for[IDS]; /* its name */

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
byte client[IDS], current[IDS];
byte wants[2];  /* shards that it stages on, a bit each */
byte acked[IDS];
byte named[2];  /* what its COMMIT says is in the transaction */
byte told[2];   /* how it was answered */
bool wants_abort[IDS];
bool abort_sent[IDS]; /* by anybody who may */

/* ---- what has to be remembered to be checked ---- */
byte decided[2]; /* COMMITTED or ABORTED is on disk: no way back */
byte dropped[2]; /* shards that dropped what was part of a transaction */

#define NONE_VISIBLE(name)                                                                         \
    (!visible[AT(NOW, 0, name)] && !visible[AT(NOW, 1, name)] && !visible[AT(NOW, 2, name)])

/* The properties; never true, they give a failed assertion its name. */
hidden byte commits_once,  /* a part becomes visible once */
    all_or_nothing,        /* nothing is visible when another part was dropped */
    as_decided,              /* a participant commits what is decided on disk, nothing before */
    as_named,              /* nothing commits that the client did not name */
    decision_stands,       /* what is decided on disk is neither changed nor dropped */
    answer_stands,         /* one answer for ever, and nothing against it */
    committed_is_kept,     /* "committed": each part is visible, and on disk */
    prepared_waits,        /* a prepared transaction is aborted only by who may */
    nothing_in_doubt;      /* at the end nothing is open, held or without an answer */
#define HOLDS(property, condition) assert(property || (condition))

byte crashes, stops, duplicates, losses;
#ifdef M_OLD_DECISION
byte restarted; /* shards, a bit each */
#endif
byte s, t, e, i; /* of one step */
#ifdef SIDE_BY_SIDE
byte id;
#endif
bool flag;
byte add = 255, add_shard, which;

/* ---- entries ---- */

inline see_commit(w, shard, name) {
    part[AT(w, shard, name)] = NOTHING;
    if
    :: w == NOW ->
        HOLDS(commits_once, !visible[AT(NOW, shard, name)]);
        HOLDS(answer_stands, told[name] != ABORTED);
        HOLDS(all_or_nothing, !(dropped[name] & named[name]));
        HOLDS(as_named, (1 << shard) & named[name]);
    :: else
    fi;
    visible[AT(w, shard, name)] = 1
}

inline see_drop(w, shard, name) {
    if
    :: w == NOW && part[AT(NOW, shard, name)] != NOTHING && !visible[AT(NOW, shard, name)] &&
       (part[AT(NOW, shard, name)] == PREPARED || ((1 << shard) & named[name])) ->
        HOLDS(decision_stands, decided[name] != COMMITTED);
        HOLDS(answer_stands, told[name] != COMMITTED);
        HOLDS(all_or_nothing, NONE_VISIBLE(name));
        dropped[name] = dropped[name] | (1 << shard)
    :: else
    fi;
    part[AT(w, shard, name)] = NOTHING
}

inline row_end(w, name, how) {
    ROW_OF(w, name).last = name + 1;
    ROW_OF(w, name).outcome = how;
    ROW_OF(w, name).state = EMPTY;
    ROW_OF(w, name).open = 0;
    ROW_OF(w, name).shards = 0
}

/* What an entry of a shard's log does. k: kind, n: name, x: the shard that it is about. */
inline apply(w, shard, k, n, x) {
    if
    :: k == E_OPEN ->
        ROW_OF(w, n).state = OPEN;
        ROW_OF(w, n).open = n + 1;
        ROW_OF(w, n).shards = 0
    :: k == E_JOIN -> ROW_OF(w, n).shards = ROW_OF(w, n).shards | (1 << x)
    :: k == E_COMMITTING -> ROW_OF(w, n).state = COMMITTING;
        if
        :: w == KEPT -> HOLDS(decision_stands, decided[n] != ABORTED); decided[n] = COMMITTED
        :: else
        fi
    :: k == E_ABORTING -> ROW_OF(w, n).state = ABORTING;
        if
        :: w == KEPT -> HOLDS(decision_stands, decided[n] != COMMITTED); decided[n] = ABORTED
        :: else
        fi
    :: k == E_PREPARED_ALL -> ROW_OF(w, n).state = PREPARED_ALL
    :: k == E_END ->
        if
        :: ROW_OF(w, n).state == COMMITTING -> row_end(w, n, COMMITTED)
        :: else -> row_end(w, n, ABORTED)
        fi
    :: k == E_STAGED ->
        part[AT(w, shard, n)] = STAGED;
        seen[w] = seen[w] | BIT(shard, n);
        if
        :: shard == COORDINATOR(n) && ROW_OF(w, n).open == n + 1 ->
            ROW_OF(w, n).shards = ROW_OF(w, n).shards | (1 << shard)
        :: else
        fi
    :: k == E_PREPARE -> part[AT(w, shard, n)] = PREPARED
    :: k == E_COMMIT ->
        if
        :: w == NOW -> HOLDS(as_decided, decided[n] == COMMITTED)
        :: else
        fi;
        see_commit(w, shard, n)
    :: k == E_ABORT -> see_drop(w, shard, n)
    :: k == E_COMMIT_HERE ->
        row_end(w, n, COMMITTED);
        if
        :: part[AT(w, shard, n)] != NOTHING -> see_commit(w, shard, n)
        :: else
        fi;
        if
        :: w == KEPT -> decided[n] = COMMITTED
        :: else
        fi
    :: k == E_ABORT_HERE ->
        row_end(w, n, ABORTED);
        see_drop(w, shard, n);
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

/* ---- the coordinator ---- */

#define STATE_IS_OPEN(n)                                                                           \
    (ROW_OF(NOW, n).state == OPEN && ROW_OF(NOW, n).open == (n) + 1 && job[ID(n)] == NO_JOB)
#define OTHERS (7 & ~(1 << HOME)) /* shards */

inline tell_all(kind) {
    i = 0;
    do
    :: i < 3 ->
        if
        :: job_shards[id] & (1 << i) -> SEND(kind, i, ROW(NOW).open - 1)
        :: else
        fi;
        i++
    :: else -> break
    od;
    i = 0
}

/* what: the goal. Begins at DECIDING, or asks for votes. */
inline job_begin(what) {
    HOLDS(prepared_waits, ROW(NOW).state != PREPARED_ALL || what != GOAL_ABORT || abort_sent[id]);
    job_shards[id] = ROW(NOW).shards;
    answered[id] = 0;
    job_failed[id] = 0;
    goal[id] = what;
    if
    :: what == GOAL_ABORT || ROW(NOW).state == PREPARED_ALL -> job[id] = DECIDING
    :: else -> job[id] = VOTING; tell_all(PREPARE)
    fi
}

inline tell() {
    job[id] = TELLING;
    answered[id] = 0;
    if
    :: goal[id] == GOAL_COMMIT -> tell_all(COMMIT)
    :: else -> tell_all(ABORT)
    fi
}

/* The client hears. */
inline answer(name, how) {
    held[id] = HELD_NOT;
    HOLDS(answer_stands, told[name] == 0 || told[name] == how);
    told[name] = how;
    if
    :: how == COMMITTED -> /* every part of it is visible, and stays so */
        HOLDS(committed_is_kept, !(named[name] & 1) || visible[AT(KEPT, 0, name)]);
        HOLDS(committed_is_kept, !(named[name] & 2) || visible[AT(KEPT, 1, name)]);
        HOLDS(committed_is_kept, !(named[name] & 4) || visible[AT(KEPT, 2, name)])
    :: else ->
        HOLDS(decision_stands, decided[name] != COMMITTED);
        HOLDS(all_or_nothing, NONE_VISIBLE(name))
    fi;
    if
    :: current[id] == name && client[id] != C_GONE && client[id] != C_FINISHED -> client[id] = C_FINISHED
    :: else
    fi
}

/* A request to commit, abort or prepare the name t, which is read as `how` (a goal). */
inline on_end(how) {
    if
    :: ROW(NOW).state == EMPTY && ROW(NOW).last == t + 1 -> held[id] = HELD_LAST; held_for[id] = t
    :: ROW(NOW).open == t + 1 && ROW(NOW).state == OPEN && job[id] == NO_JOB ->
        held_for[id] = t;
        if
        :: how != GOAL_PREPARE && !(ROW(NOW).shards & OTHERS) -> /* only here: one entry */
            held[id] = HELD_LAST;
            flag = how == GOAL_COMMIT && !(named[t] & OTHERS) &&
                   ((part[AT(NOW, HOME, t)] == STAGED) == ((named[t] & (1 << HOME)) != 0));
#ifdef M_UNNAMED_SHARD
            flag = how == GOAL_COMMIT;
#endif
            if
            :: flag -> APPEND(HOME, E_COMMIT_HERE)
            :: else -> APPEND(HOME, E_ABORT_HERE)
            fi;
            flag = 0
#ifndef M_UNNAMED_SHARD
        :: how != GOAL_ABORT && ((named[t] & ~ROW(NOW).shards) & 7) && !(how != GOAL_PREPARE && !(ROW(NOW).shards & OTHERS)) ->
            held[id] = HELD_JOB;
            job_begin(GOAL_ABORT)
        :: else -> held[id] = HELD_JOB; job_begin(how)
#else
        :: else -> held[id] = HELD_JOB; job_begin(how)
#endif
        fi
    :: ROW(NOW).open == t + 1 && ROW(NOW).state == PREPARED_ALL && job[id] == NO_JOB ->
        if
        :: how == GOAL_PREPARE -> /* prepared again: says so */
            if
            :: current[id] == t && client[id] == C_PREPARING -> client[id] = C_PREPARED
            :: else
            fi
        :: else -> held[id] = HELD_JOB; held_for[id] = t; job_begin(how)
        fi
    :: ROW(NOW).open == t + 1 && job[id] != NO_JOB ->
        if
        :: goal[id] == how -> held[id] = HELD_JOB; held_for[id] = t
        :: how == GOAL_COMMIT && goal[id] == GOAL_ABORT -> held[id] = HELD_ABORT; held_for[id] = t
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

/* mine: the bits of its names */
inline crash_coordinator(mine) {
    ROW(NOW).state = ROW(KEPT).state;
    ROW(NOW).open = ROW(KEPT).open;
    ROW(NOW).shards = ROW(KEPT).shards;
    ROW(NOW).last = ROW(KEPT).last;
    ROW(NOW).outcome = ROW(KEPT).outcome;
    mail[VOTE_YES] = mail[VOTE_YES] & ~(mine);
    mail[VOTE_NO] = mail[VOTE_NO] & ~(mine);
    mail[DONE] = mail[DONE] & ~(mine);
    joins = joins & ~(mine);
    unknowns = unknowns & ~(mine);
    held[id] = HELD_NOT;
    held_for[id] = 0;
    job[id] = NO_JOB;
    goal[id] = 0;
    answered[id] = 0;
    job_shards[id] = 0;
    job_failed[id] = 0;
    if
    :: ROW(NOW).state == COMMITTING || ROW(NOW).state == ABORTING -> /* goes on being told */
        job_shards[id] = ROW(NOW).shards;
        goal[id] = (ROW(NOW).state == COMMITTING -> GOAL_COMMIT : GOAL_ABORT);
        tell()
    :: else
    fi
}

inline crash(shard) {
#ifdef M_OLD_DECISION
    restarted = restarted | (1 << shard);
#endif
#ifdef FORESEEN
    doomed = doomed & ~(1 << shard);
#else
    do
    :: wal[shard] ? e
    :: empty(wal[shard]) -> break
    od;
    e = 0;
#endif
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
#ifdef SIDE_BY_SIDE
    if
    :: shard < 2 -> id = shard; crash_coordinator(21 << id); id = 0
    :: else
    fi
#else
    if
    :: shard == 0 -> crash_coordinator(63)
    :: else
    fi
#endif
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
#define NAME t = (ROW(NOW).open > 0 -> ROW(NOW).open - 1 : t) /* a mail is taken for whatever is open */
#else
#define NAME OF(t)
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
    (KEPT_OF(x, n) != NOTHING && (x == COORDINATOR(n) || (join_done & BIT(x, n)) != 0) -> BIT(x, n) : 0)
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
#define DONE_OF(x, n) (KEPT_OF(x, n) == NOTHING || IS_SYNCED(x) -> BIT(x, n) : 0)
#endif
#define DONEABLE (dones & EACH(DONE_OF))
#define JOIN_OF(x, n)                                                                              \
    (ROW_OF(NOW, n).open != n + 1 || (ROW_OF(KEPT, n).shards & (1 << x)) != 0 -> BIT(x, n) : 0)
#define JOINABLE (joins & EACH(JOIN_OF))

#ifdef M_UNNAMED_SHARD
#define VOTES_YES 1 /* does not compare */
#else
#define VOTES_YES ((named[t] & (1 << s)) != 0)
#endif
#ifdef M_OLD_DECISION /* a shard that was restarted takes any decision for that of what it has prepared */
#define MUTATED_OLD_DECISION                                                                       \
    t = ((restarted & (1 << s)) && part[AT(NOW, s, 1 - t)] == PREPARED -> 1 - t : t)
#else
#define MUTATED_OLD_DECISION skip
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
#define MUTATED_LAST_EARLY || ROW(NOW).last == held_for[id] + 1
#define MUTATED_LAST_ROW NOW
#else
#define MUTATED_LAST_EARLY
#define MUTATED_LAST_ROW KEPT
#endif
#ifdef M_VOTES_MISSING
#define VOTED (answered[id] != 0) /* decides when one has voted */
#else
#define VOTED (answered[id] == job_shards[id])
#endif
#define ALL_DONE (answered[id] == job_shards[id])
#define IS_UNDECIDED                                                                               \
    (ROW(NOW).state == OPEN || (ROW(NOW).state == PREPARED_ALL && goal[id] != GOAL_PREPARE))
#ifdef M_TOLD_BEFORE_DURABLE
#define DECISION_IS_DURABLE 1
#else
#define DECISION_IS_DURABLE (ROW(KEPT).open == ROW(NOW).open && ROW(KEPT).state == ROW(NOW).state)
#endif
#ifdef SIDE_BY_SIDE
#define END_CAN_COME(kind) (mail[kind] & BIT(0, id)) != 0 && ROOM(HOME)
#define END_COMES(kind, how)                                                                       \
    t = id;                                                                                        \
    take(kind);                                                                                    \
    on_end(how)
#else
#define END_CAN_COME(kind)                                                                         \
    mail[kind] != 0 && ROOM(0) && (held[0] == HELD_NOT || (mail[kind] & BIT(0, held_for[0])) != 0)
#define END_COMES(kind, how)                                                                       \
    if                                                                                             \
    :: (mail[kind] & BIT(0, 0)) && (held[0] == HELD_NOT || held_for[0] == 0) -> t = 0              \
    :: (mail[kind] & BIT(0, 1)) && (held[0] == HELD_NOT || held_for[0] == 1) -> t = 1              \
    fi;                                                                                            \
    take(kind);                                                                                    \
    NAME;                                                                                          \
    on_end(how)
#endif

#define MAILS_OF(n)                                                                                \
    ((mail[0] | mail[1] | mail[2] | mail[3] | mail[4] | mail[5] | mail[6] | mail[7] | mail[8] |    \
      mail[9] | mail[10] | mail[11] | mail[12] | mail[13] | mail[14] | mail[15] | mail[16] |       \
      join_asked | join_done | join_refused | must_ask | asked | waiters | votes | dones | joins | \
      unknowns) & (21 << (n)))

/* When nothing of the first transaction is left anywhere but in the coordinator's memory of how it ended, how it went makes no
 * difference any more: fewer states. */
inline close_books() {
    if
    :: current[id] == 1 && ROW(NOW).open != 1 && ROW(KEPT).open != 1 &&
       MAILS_OF(0) == 0 && part[0] + part[2] + part[4] + part[6] + part[8] + part[10] == 0 &&
       BOOKS_ARE_SYNCED && !(held[id] != HELD_NOT && held_for[id] == 0) ->
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

#ifdef TIDY
/* What nobody will ever look at again, and mails that whoever gets them ignores for ever, since his guards say so: as if they
 * had come already. Fewer states, no other behaviour; not with mutations that loosen those guards. */
#define IS_ENDED(n)                                                                                \
    (ROW_OF(NOW, n).open != (n) + 1 && ROW_OF(KEPT, n).open != (n) + 1 &&                          \
     (ROW_OF(KEPT, n).last == (n) + 1 || current[ID(n)] > (n)))
#define IS_DECIDED(n)                                                                              \
    (ROW_OF(KEPT, n).open == (n) + 1 &&                                                            \
     (ROW_OF(KEPT, n).state == COMMITTING || ROW_OF(KEPT, n).state == ABORTING))
#define STAGES(n) (client[ID(n)] <= C_STAGING && current[ID(n)] <= (n))
#define IS_GONE(x, n)                                                                              \
    (part[AT(NOW, x, n)] == NOTHING && part[AT(KEPT, x, n)] == NOTHING &&                          \
     ((seen[KEPT] & BIT(x, n)) || (!SENT(STAGE, x, n) && !STAGES(n))))

#ifndef SIDE_BY_SIDE
/* Shards 1 and 2 are alike: which is which makes no difference, so of two such states one is kept. i: 1 or 2 when they differ. */
#define SETS_SWAPPED(x) (((x) & 3) | (((x) & 12) << 2) | (((x) & 48) >> 2))
#define SHARDS_SWAPPED(x) (((x) & 1) | (((x) & 2) << 1) | (((x) & 4) >> 1))
inline compare(x, y) {
    if
    :: i == 0 && (x) != (y) -> i = ((x) < (y) -> 1 : 2)
    :: else
    fi
}
inline compare_set(x) { compare(x & 12, (x & 48) >> 2) }
inline compare_shards(x) { compare(x & 2, (x & 4) >> 1) }
inline swap(x, y) {
    e = x;
    x = y;
    y = e
}
inline swap_set(x) { x = SETS_SWAPPED(x) }
inline swap_shards(x) { x = SHARDS_SWAPPED(x) }

inline sort_shards() {
    i = 0;
    s = 0;
    do
    :: s < 12 && i == 0 ->
        compare(part[s + 2], part[s + 4]);
        compare(visible[s + 2], visible[s + 4]);
        s = (s == 1 -> 6 : (s == 7 -> 12 : s + 1))
    :: else -> break
    od;
    s = 0;
    do
    :: s < END_COMMIT && i == 0 -> compare_set(mail[s]); s++
    :: else -> break
    od;
    if
    :: i == 0 ->
        compare_set(join_asked);
        compare_set(join_done);
        compare_set(join_refused);
        compare_set(asked);
        compare_set(waiters);
        compare_set(votes);
        compare_set(dones);
        compare_set(joins);
        compare_set(unknowns);
        compare_set(seen[NOW]);
        compare_set(seen[KEPT]);
        compare_shards(doomed);
        compare_shards(wants[0]);
        compare_shards(wants[1]);
        compare_shards(named[0]);
        compare_shards(named[1]);
        compare_shards(acked[0]);
        compare_shards(answered[0])
    :: else
    fi;
    if
    :: i == 2 -> swap_all()
    :: else
    fi;
    i = 0;
    s = 0;
    e = 0
}

inline swap_all() {
    s = 0;
    do
    :: s < 12 ->
        swap(part[s + 2], part[s + 4]);
        swap(visible[s + 2], visible[s + 4]);
        s = (s == 1 -> 6 : (s == 7 -> 12 : s + 1))
    :: else -> break
    od;
    s = 0;
    do
    :: s < END_COMMIT -> swap_set(mail[s]); s++
    :: else -> break
    od;
    swap_set(join_asked);
    swap_set(join_done);
    swap_set(join_refused);
    swap_set(asked);
    swap_set(waiters);
    swap_set(votes);
    swap_set(dones);
    swap_set(joins);
    swap_set(unknowns);
    swap_set(seen[NOW]);
    swap_set(seen[KEPT]);
    swap_shards(doomed);
    swap_shards(wants[0]);
    swap_shards(wants[1]);
    swap_shards(named[0]);
    swap_shards(named[1]);
    swap_shards(dropped[0]);
    swap_shards(dropped[1]);
    swap_shards(acked[0]);
    swap_shards(answered[0]);
    swap_shards(job_shards[0]);
    swap_shards(row[NOW].shards);
    swap_shards(row[KEPT].shards)
}
#endif

inline tidy_name(n) {
    if
    :: IS_ENDED(n) || IS_DECIDED(n) ->
        mail[VOTE_YES] = mail[VOTE_YES] & ~(21 << n);
        mail[VOTE_NO] = mail[VOTE_NO] & ~(21 << n);
        e = 0; /* for whom nothing but a decision matters */
        s = 0;
        do
        :: s < 3 ->
            if
            :: IS_GONE(s, n) -> e = e | BIT(s, n)
            :: part[AT(NOW, s, n)] == PREPARED && part[AT(KEPT, s, n)] == PREPARED ->
                mail[PREPARE] = mail[PREPARE] & ~BIT(s, n)
            :: else
            fi;
            s++
        :: else -> break
        od;
        s = 0;
        do
        :: s <= PREPARE -> mail[s] = mail[s] & ~e; s++
        :: else -> break
        od;
        asked = asked & ~e;
        joins = joins & ~e;
        unknowns = unknowns & ~e;
        if
        :: IS_ENDED(n) ->
            mail[DONE] = mail[DONE] & ~(21 << n);
#ifndef M_OLD_DECISION /* looks at it */
            mail[COMMIT] = mail[COMMIT] & ~e;
#endif
            mail[ABORT] = mail[ABORT] & ~e;
            dones = dones & ~e;
            if
            :: !STAGES(n) -> seen[NOW] = seen[NOW] & ~e; seen[KEPT] = seen[KEPT] & ~e
            :: else
            fi
        :: else
        fi;
        e = 0;
        s = 0
    :: else
    fi
}

inline tidy() {
    if
    :: client[id] > C_STAGING -> wants[current[id]] = 0; acked[id] = 0
    :: else
    fi;
    if
    :: client[id] != C_ENDING -> wants_abort[id] = 0
    :: else
    fi;
    tidy_name(0);
    tidy_name(1);
#ifndef SIDE_BY_SIDE
    if /* asked to end what is neither open nor the last */
    :: row[KEPT].open == 2 || row[KEPT].last == 2 ->
        mail[END_COMMIT] = mail[END_COMMIT] & ~BIT(0, 0);
        mail[END_ABORT] = mail[END_ABORT] & ~BIT(0, 0);
        mail[END_PREPARE] = mail[END_PREPARE] & ~BIT(0, 0)
    :: else
    fi;
    sort_shards()
#endif
}
#endif

/* The entry of this step, if there is one. */
inline take_effect() {
    if
    :: add != NO_ENTRY ->
        apply(which, add_shard, add, t, s);
#ifdef FORESEEN
        if
        :: IS_SYNCED(add_shard) -> apply(KEPT, add_shard, add, t, s)
#if CRASHES > 0
        :: IS_SYNCED(add_shard) && crashes < CRASHES -> crashes++; doomed = doomed | (1 << add_shard)
#endif
#if STOPS > 0
        :: IS_SYNCED(add_shard) && stops < STOPS -> doomed = doomed | (1 << add_shard)
#endif
        :: !IS_SYNCED(add_shard)
        fi
#else
        if
        :: which == NOW -> wal[add_shard] ! ENTRY(add, t, s)
        :: else
        fi
#endif
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
        :: client[ID(t)] == C_STAGING && current[ID(t)] == t -> acked[ID(t)] = acked[ID(t)] | (1 << s)
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
    
#define UNKNOWN_OF(x, n) (IS_SYNCED(COORDINATOR(n)) -> BIT(x, n) : 0)
    :: unknowns != 0 && (unknowns & EACH(UNKNOWN_OF)) != 0 ->
        SELECT(unknowns & EACH(UNKNOWN_OF));
        unknowns = unknowns & ~ME;
        SEND(ASK_NO, s, t)
    :: job[id] == VOTING && VOTED ->
        goal[id] = (job_failed[id] -> GOAL_ABORT : goal[id]);
        job[id] = DECIDING
    :: job[id] == DECIDING && IS_UNDECIDED && ROOM(HOME) ->
        t = ROW(NOW).open - 1;
        if
        :: goal[id] == GOAL_COMMIT -> APPEND(HOME, E_COMMITTING)
        :: goal[id] == GOAL_ABORT -> APPEND(HOME, E_ABORTING)
        :: else -> APPEND(HOME, E_PREPARED_ALL)
        fi;
        take_effect()
    :: job[id] == DECIDING && !IS_UNDECIDED && DECISION_IS_DURABLE ->
        if
        :: goal[id] == GOAL_PREPARE ->
            job[id] = NO_JOB;
            held[id] = HELD_NOT;
            if
            :: client[id] == C_PREPARING -> client[id] = C_PREPARED
            :: else
            fi
        :: else -> tell()
        fi
    :: job[id] == TELLING && ALL_DONE ->
        job[id] = ENDING;
        if
        :: held[id] == HELD_JOB -> answer(held_for[id], (goal[id] == GOAL_COMMIT -> COMMITTED : ABORTED))
        :: else
        fi
    :: job[id] == ENDING && ROOM(HOME) ->
        t = ROW(NOW).open - 1;
        if
        :: held[id] == HELD_JOB -> answer(held_for[id], (goal[id] == GOAL_COMMIT -> COMMITTED : ABORTED))
        :: else
        fi;
        APPEND(HOME, E_END);
        job[id] = NO_JOB;
        goal[id] = 0;
        answered[id] = 0;
        job_shards[id] = 0;
        job_failed[id] = 0;
        take_effect()
    :: held[id] == HELD_LAST && (ROW(KEPT).last == held_for[id] + 1 MUTATED_LAST_EARLY) ->
        answer(held_for[id], ROW(MUTATED_LAST_ROW).outcome)
    :: held[id] == HELD_ABORT && (ROW(KEPT).last == held_for[id] + 1 ||
       (ROW(KEPT).open == held_for[id] + 1 && ROW(KEPT).state == ABORTING)) ->
        answer(held_for[id], ABORTED)

    :: else -> break
    od
}

#ifdef SIDE_BY_SIDE
#define HAD_ALL true
#define NO_PARTS                                                                                   \
    (part[AT(NOW, 0, id)] + part[AT(NOW, 1, id)] + part[AT(NOW, 2, id)] + part[AT(KEPT, 0, id)] +  \
     part[AT(KEPT, 1, id)] + part[AT(KEPT, 2, id)] == 0)
#else
#define HAD_ALL current[0] == TRANSACTIONS - 1
#define NO_PARTS                                                                                   \
    (part[0] + part[1] + part[2] + part[3] + part[4] + part[5] == 0 &&                             \
     part[6] + part[7] + part[8] + part[9] + part[10] + part[11] == 0)
#endif
#define QUIET                                                                                      \
    (ROW(NOW).state == EMPTY && ROW(KEPT).state == EMPTY && job[id] == NO_JOB && held[id] == HELD_NOT &&   \
     NO_PARTS && client[id] == C_FINISHED && HAD_ALL)

active proctype world()
{
    atomic {
#ifdef FIRST
        wants[0] = FIRST;
        wants[1] = SECOND;
#else
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
#endif
#ifdef SIDE_BY_SIDE
        current[1] = 1
#else
        skip
#endif
    }
    do
    :: atomic {
        which = NOW;
#ifdef SIDE_BY_SIDE
        if /* whose coordinator or client may do a step now */
        :: id = 0
        :: id = 1
        fi;
#endif
        if
        /* ---- the client ---- */
        :: client[id] == C_BEGIN && ROW(NOW).state == EMPTY && ROOM(HOME) ->
            t = current[id];
            APPEND(HOME, E_OPEN);
            client[id] = C_BEGUN
        :: client[id] == C_BEGUN && ROW(NOW).open != current[id] + 1 && ROW(NOW).last != current[id] + 1 ->
            client[id] = C_BEGIN /* lost in a crash */
        :: client[id] == C_BEGUN && ROW(NOW).last == current[id] + 1 ->
            client[id] = C_FINISHED /* its deadline was faster */
        :: client[id] == C_BEGUN && ROW(KEPT).open == current[id] + 1 ->
            client[id] = C_STAGING
        :: client[id] == C_STAGING && wants[current[id]] != acked[id] -> /* also again, when it was not answered */
            flag = 0;
            do
            :: i < 3 && (wants[current[id]] & ~acked[id] & (1 << i)) && !SENT(STAGE, i, current[id]) &&
               !(waiters & BIT(i, current[id])) && part[AT(NOW, i, current[id])] == NOTHING &&
               !(seen[NOW] & BIT(i, current[id])) ->
                SEND(STAGE, i, current[id]);
                flag = 1;
                break
            :: i < 3 && (wants[current[id]] & ~acked[id] & (1 << i)) && !SENT(STAGE, i, current[id]) &&
               !(waiters & BIT(i, current[id])) && part[AT(NOW, i, current[id])] == STAGED ->
                SEND(STAGE, i, current[id]);
                flag = 1;
                break
            :: i < 3 -> i++
            :: i == 3 -> break
            od;
            if
            :: !flag -> client[id] = C_ENDING; wants_abort[id] = 1; SEND(END_ABORT, 0, current[id])
            :: else
            fi
        :: client[id] == C_STAGING && acked[id] == wants[current[id]] ->
            named[current[id]] = acked[id];
            wants_abort[id] = 0;
            client[id] = C_ENDING;
            SEND(END_COMMIT, 0, current[id])
#ifdef CARELESS
        :: client[id] == C_STAGING && acked[id] != wants[current[id]] -> /* names less, or more, than it was acked */
            if
            :: named[current[id]] = acked[id]
            :: named[current[id]] = wants[current[id]]
            fi;
            wants_abort[id] = 0;
            client[id] = C_ENDING;
            SEND(END_COMMIT, 0, current[id])
#endif
#ifdef PREPARES
        :: client[id] == C_STAGING && acked[id] == wants[current[id]] ->
            named[current[id]] = acked[id];
            client[id] = C_PREPARING;
            SEND(END_PREPARE, 0, current[id])
        :: client[id] == C_PREPARED -> /* the client, or its successor, by name */
            if
            :: wants_abort[id] = 0; SEND(END_COMMIT, 0, current[id])
            :: wants_abort[id] = 1; abort_sent[id] = 1; SEND(END_ABORT, 0, current[id])
            fi;
            client[id] = C_ENDING
        :: client[id] == C_PREPARING && !SENT(END_PREPARE, 0, current[id]) && held[id] == HELD_NOT ->
            SEND(END_PREPARE, 0, current[id])
        :: client[id] == C_GONE && ROW(NOW).state == PREPARED_ALL && job[id] == NO_JOB ->
            client[id] = C_PREPARED
#endif
        :: client[id] == C_ENDING && !SENT(END_COMMIT, 0, current[id]) && !SENT(END_ABORT, 0, current[id]) &&
           held[id] == HELD_NOT -> /* cut off from its answer: asks again */
            if
            :: wants_abort[id] -> SEND(END_ABORT, 0, current[id])
            :: else -> SEND(END_COMMIT, 0, current[id])
            fi
#ifndef STEADY
        :: client[id] >= C_BEGUN && client[id] <= C_PREPARED -> /* it dies; what it sent may still come */
            client[id] = C_GONE
#endif
        :: client[id] == C_GONE && ROW(NOW).state == EMPTY -> /* TXN_INIT of its successor */
            client[id] = C_FINISHED
#ifndef SIDE_BY_SIDE
        :: client[0] == C_FINISHED && current[0] + 1 < TRANSACTIONS && ROW(NOW).state == EMPTY ->
            current[0]++;
            acked[0] = 0;
            abort_sent[0] = 0;
            client[0] = C_BEGIN
#endif

        /* ---- participants ---- */
        :: WITH_ROOM(mail[STAGE]) != 0 ->
            SELECT(WITH_ROOM(mail[STAGE]));
            take(STAGE);
            NAME;
            if
            :: s == COORDINATOR(t) && !STATE_IS_OPEN(t)
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
                    :: s != COORDINATOR(t) && !((join_asked | join_done) & ME) ->
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
            MUTATED_OLD_DECISION;
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
#define AT_HOME(set) ((set) & ((ROOM(COORDINATOR(0)) -> 21 : 0) + (ROOM(COORDINATOR(1)) -> 42 : 0)))
        :: AT_HOME(mail[JOIN]) != 0 ->
            SELECT(AT_HOME(mail[JOIN]));
            take(JOIN);
            NAME;
            if
            :: STATE_IS_OPEN(t) ->
                if
                :: !(ROW(NOW).shards & (1 << s)) -> APPEND(HOME, E_JOIN)
                :: else
                fi;
                joins = joins | ME
#ifdef M_JOIN_UNKNOWN
            :: !STATE_IS_OPEN(t) -> SEND(JOIN_YES, s, t)
#else
            :: else -> SEND(JOIN_NO, s, t)
#endif
            fi
        :: AT_HOME(mail[ASK] | mail[ASK_VOTED]) != 0 ->
            SELECT(AT_HOME(mail[ASK] | mail[ASK_VOTED]));
            flag = (mail[ASK_VOTED] & ME) != 0;
            if
            :: flag -> take(ASK_VOTED)
            :: else -> take(ASK)
            fi;
            NAME;
            if
            :: ROW(NOW).open != t + 1 -> APPEND(HOME, E_NOTE); unknowns = unknowns | ME
            :: ROW(NOW).open == t + 1 && !(ROW(NOW).shards & (1 << s)) ->
                if
                :: STATE_IS_OPEN(t) -> APPEND(HOME, E_JOIN); SEND(ASK_WAIT, s, t)
                :: else -> SEND(ASK_NO, s, t)
                fi
            :: else ->
#ifdef M_LAST_OUTCOME /* decides what was cut short as the transaction before it */
                if
                :: flag && STATE_IS_OPEN(t) && ROW(NOW).last != 0 && ROW(NOW).outcome == COMMITTED ->
                    job_begin(GOAL_COMMIT);
                    answered[id] = job_shards[id]
                :: flag && STATE_IS_OPEN(t) && !(ROW(NOW).last != 0 && ROW(NOW).outcome == COMMITTED) ->
                    job_begin(GOAL_ABORT)
                :: else
                fi;
                SEND(ASK_WAIT, s, t)
#elif defined M_PRESUMES_UNDECIDED
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
            :: job[id] == VOTING && ROW(NOW).open == t + 1 && !(answered[id] & (1 << s)) ->
                answered[id] = answered[id] | (1 << s);
                if
                :: flag MUTATED_NO_IS_YES -> job_failed[id] = 1
                :: else
                fi
            :: else
            fi
        :: mail[DONE] != 0 ->
            SELECT(mail[DONE]);
            take(DONE);
            NAME;
            if
            :: job[id] == TELLING && ROW(NOW).open == t + 1 -> answered[id] = answered[id] | (1 << s)
            :: else
            fi
#ifdef M_END_EARLY
        :: job[id] == TELLING && ROOM(HOME) -> job[id] = ENDING /* before all have done it */
#endif
#ifdef M_DEADLINE_OF_DECIDED
        :: ROW(NOW).state == COMMITTING && ROOM(HOME) && job[id] == TELLING ->
            t = ROW(NOW).open - 1;
            APPEND(HOME, E_ABORTING);
            goal[id] = GOAL_ABORT;
            job[id] = DECIDING
#endif
#ifndef STEADY
        :: ROW(NOW).state == OPEN && job[id] == NO_JOB -> /* its deadline passes, or TXN_INIT */
            job_begin(GOAL_ABORT)
#endif
#ifdef M_DEADLINE_OF_PREPARED
        :: ROW(NOW).state == PREPARED_ALL && job[id] == NO_JOB -> job_begin(GOAL_ABORT)
#endif
        :: END_CAN_COME(END_COMMIT) -> END_COMES(END_COMMIT, GOAL_COMMIT)
        :: END_CAN_COME(END_ABORT) -> END_COMES(END_ABORT, GOAL_ABORT)
        :: END_CAN_COME(END_PREPARE) -> END_COMES(END_PREPARE, GOAL_PREPARE)
#ifdef M_ANSWERED_AT_DECISION
        :: job[id] == TELLING && held[id] == HELD_JOB ->
            answer(held_for[id], (goal[id] == GOAL_COMMIT -> COMMITTED : ABORTED))
#endif
        /* ---- the disk ---- */
#ifndef FORESEEN
        :: !ALL_SYNCED ->
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
#endif

        /* ---- what goes wrong ---- */
#if CRASHES > 0
        :: crashes < CRASHES ->
            crashes++;
            if
            :: crash(0)
            :: crash(1)
            :: crash(2)
            fi
#ifndef FORESEEN
        :: crashes < CRASHES -> crashes = CRASHES
#else
        :: doomed & 1 -> crash(0)
        :: doomed & 2 -> crash(1)
        :: doomed & 4 -> crash(2)
#endif
#endif
#if STOPS > 0
        :: stops < STOPS -> stops++; stop_all()
        :: stops < STOPS && STOP_IS_AVOIDABLE -> stops = STOPS /* no more of it */
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
            HOLDS(nothing_in_doubt, QUIET);
#endif
            break
        fi;
        take_effect();
#ifdef SIDE_BY_SIDE
        id = 0;
        settle();
#ifdef TIDY
        skip;
        d_step { tidy(); skip };
#endif
        id = 1;
        settle();
#ifdef TIDY
        skip;
        d_step { tidy(); skip };
#endif
#else
        settle();
#ifdef TIDY
        skip;
        d_step { tidy(); skip };
#endif
        close_books();
#endif
        s = 0;
        t = 0;
        e = 0;
        i = 0;
#ifdef SIDE_BY_SIDE
        id = 0;
#endif
        flag = 0
    }
    od
}
