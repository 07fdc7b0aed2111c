"""The API's answers as SQL. A kind of fact in braces stands for the facts of it that hold at the asked block; `read` fills in the other braces."""

import re

LATEST = "until IS NULL"
AT = "block_number <= %(at)s AND (until IS NULL OR until > %(at)s)"


def facts_at(sql: str, latest: bool) -> str:
    """The query with each ``{kind}`` replaced. ``latest``: of what holds now, which has an index of its own."""
    when = LATEST if latest else AT
    return re.sub(r"\{(\w+)\}", rf"(SELECT key, value, block_number, log_index FROM indexer.version WHERE kind = '\1' AND {when})", sql)


PROVIDERS = """
SELECT p.key AS provider, p.value ->> 'operator' AS operator, p.value ->> 'endpoint' AS endpoint,
       COALESCE(s.value ->> 'active', '0') AS stake, COALESCE(s.value ->> 'slashed', '0') AS slashed,
       COALESCE(s.value ->> 'delegated', '0') AS delegated,
       (p.value ->> 'jailedUntil')::bigint <> 0 AS jailed,
       (SELECT COALESCE(jsonb_agg(g.value - 'provider' - 'active' ORDER BY g.key), '[]') FROM {gpu} g
         WHERE g.key > p.key || '/' AND g.key < p.key || '0' AND (g.value -> 'active')::bool) AS gpus,
       (SELECT COALESCE(jsonb_agg(o.value - 'provider' ORDER BY o.key), '[]') FROM {offer} o
         WHERE o.key > p.key || '/' AND o.key < p.key || '0' AND (o.value -> 'active')::bool) AS offers,
       COALESCE((w.value ->> 'receipts')::bigint, 0) AS receipts, COALESCE((w.value ->> 'tokens')::bigint, 0) AS tokens,
       COALESCE(r.value ->> 'amount', '0') AS paid, COALESCE(e.value ->> 'amount', '0') AS emission, p.block_number, p.log_index, t.tx_hash
FROM {provider} p
JOIN indexer.event t ON t.block_number = p.block_number AND t.log_index = p.log_index
LEFT JOIN {stake} s ON s.key = p.key
LEFT JOIN {work} w ON w.key = p.key
LEFT JOIN {reward} r ON r.key = p.key || '/provider'
LEFT JOIN {reward} e ON e.key = p.key || '/emission'
WHERE p.key > %(after)s AND (%(provider)s::text IS NULL OR p.key = %(provider)s) ORDER BY p.key LIMIT %(limit)s
"""

USAGE = """
SELECT {by}, count(DISTINCT job_id) AS jobs, sum(amount)::text AS amount,
       sum(prompt_tokens - (body -> 'message' ->> 'cachedCount')::int) FILTER (WHERE layers LIKE '0-%%') AS prompt_tokens,
       sum((body -> 'message' ->> 'cachedCount')::int) FILTER (WHERE layers LIKE '0-%%') AS cached_tokens,
       sum(completion_tokens) FILTER (WHERE layers LIKE '0-%%') AS completion_tokens
FROM indexer.receipt WHERE {where} GROUP BY {by} HAVING {after} ORDER BY {by} LIMIT %(limit)s
"""

JOBS = """
WITH wanted AS (
    SELECT job_id, max(received_at) AS received FROM indexer.receipt WHERE {where}
    GROUP BY job_id HAVING %(before)s::timestamptz IS NULL OR max(received_at) < %(before)s ORDER BY received DESC LIMIT %(limit)s
), stage AS (
    SELECT r.*, w.received, (r.body -> 'message' ->> 'cachedCount')::int AS cached, b.batch_id, b.tx_hash,
           (SELECT count(*) FROM indexer.version d WHERE d.kind = 'duty' AND d.until IS NULL AND d.key > lpad(b.epoch::text, 12, '0') || '/'
              AND d.key < lpad(b.epoch::text, 12, '0') || '0' AND (d.value ->> 'count')::bigint > 0) AS checks,
           (SELECT d.value ->> 'status' FROM indexer.version d WHERE d.kind = 'dispute' AND d.until IS NULL AND d.value ->> 'provider' = r.provider
               AND (d.value -> 'claim' -> 'receipt' ->> 'number')::bigint = r.number AND d.value ->> 'closedBlock' IS NOT NULL
               AND d.value -> 'claim' ->> 'kind' <> '2' LIMIT 1) AS dispute -- 2: about a batch's whole list, by its first number
    FROM wanted w JOIN indexer.receipt r USING (job_id) LEFT JOIN LATERAL (
        SELECT (v.value ->> 'batchId')::bigint AS batch_id, (v.value ->> 'epoch')::bigint AS epoch, e.tx_hash
        FROM indexer.version v JOIN indexer.event e USING (block_number, log_index)
        WHERE v.kind = 'batch' AND v.until IS NULL AND v.value ->> 'provider' = r.provider AND (v.value ->> 'firstNumber')::bigint <= r.number
          AND (v.value ->> 'lastNumber')::bigint >= r.number
        ORDER BY (v.value ->> 'firstNumber')::bigint DESC LIMIT 1
    ) b ON true
), judged AS (
    SELECT *, CASE WHEN dispute = '3' THEN 'convicted' WHEN batch_id IS NULL THEN 'signed'
                   WHEN checks > 0 AND dispute IS DISTINCT FROM '6' THEN 'verified' -- a planted fault was convicted, and its dispute called off
                   ELSE 'anchored' END AS status,
           sum(completion_tokens) OVER (PARTITION BY job_id, layers) AS completion, -- a stage and its replacement did a part each
           sum(prompt_tokens - cached) OVER (PARTITION BY job_id, layers) AS prompt
    FROM stage
)
SELECT job_id, min(payer) AS payer, min(gateway) AS gateway, min(model_id) AS model_id, sum(amount)::text AS amount,
       max(prompt) AS prompt_tokens, max(completion) AS completion_tokens, max(received) AS received,
       CASE WHEN bool_or(status = 'convicted') THEN 'convicted' WHEN bool_and(status = 'verified') THEN 'verified'
            WHEN bool_and(status <> 'signed') THEN 'anchored' ELSE 'signed' END AS status,
       jsonb_agg(jsonb_build_object('provider', provider, 'layers', layers, 'number', number, 'amount', amount::text, 'batch', batch_id,
                                    'tx', tx_hash, 'checks', checks, 'status', status) ORDER BY (split_part(layers, '-', 1))::int, number) AS stages
FROM judged GROUP BY job_id ORDER BY max(received) DESC
"""

DISPUTES = """
SELECT (d.value ->> 'disputeId')::bigint AS dispute_id, d.value ->> 'provider' AS provider, d.value ->> 'challenger' AS challenger,
       d.value ->> 'evidenceId' AS evidence_id, d.value -> 'claim' -> 'kind' AS kind, d.value -> 'claim' -> 'receipt' AS receipt,
       o.tx_hash AS opened_tx, c.tx_hash AS closed_tx, d.value -> 'status' AS status, d.value ->> 'appellant' AS appellant,
       (d.value ->> 'deadline')::bigint AS deadline, COALESCE(d.value ->> 'slashed', '0') AS slashed, d.value ->> 'refundOrdered' AS refund_ordered,
       d.block_number, d.log_index
FROM {dispute} d
JOIN indexer.event o ON o.block_number = (d.value ->> 'openedBlock')::bigint AND o.log_index = (d.value ->> 'openedLog')::int
LEFT JOIN indexer.event c ON c.block_number = (d.value ->> 'closedBlock')::bigint AND c.log_index = (d.value ->> 'closedLog')::int
WHERE (%(before)s::text IS NULL OR d.key < %(before)s) AND (%(provider)s::text IS NULL OR d.value ->> 'provider' = %(provider)s)
ORDER BY d.key DESC LIMIT %(limit)s
"""

VERIFIERS = """
WITH accusation AS (
    SELECT value ->> 'challenger' AS verifier, count(*) AS accusations, count(*) FILTER (WHERE value ->> 'status' IN ('3', '6')) AS upheld,
           count(*) FILTER (WHERE value ->> 'status' = '4') AS acquitted
    FROM {dispute} d GROUP BY 1
)
SELECT v.key AS verifier, (v.value -> 'joined')::bool AS joined,
       COALESCE((v.value ->> 'epochs')::bigint, 0) AS epochs, COALESCE((v.value ->> 'checks')::bigint, 0) AS checks,
       COALESCE((v.value ->> 'plantsDrawn')::bigint, 0) AS plants_drawn, COALESCE((v.value ->> 'plantsFound')::bigint, 0) AS plants_found,
       COALESCE((v.value ->> 'plantsUndecided')::bigint, 0) AS plants_undecided, COALESCE((v.value ->> 'plantsMissed')::bigint, 0) AS plants_missed,
       COALESCE(accusations, 0) AS accusations, COALESCE(upheld, 0) AS accusations_upheld, COALESCE(acquitted, 0) AS accusations_acquitted,
       (COALESCE((v.value ->> 'plantsFound')::numeric, 0) / NULLIF((v.value ->> 'plantsDrawn')::numeric, 0))::float AS detection_rate,
       (COALESCE(acquitted, 0)::numeric / NULLIF((v.value ->> 'checks')::numeric, 0))::float AS false_accusation_rate,
       COALESCE(v.value ->> 'paid', '0') AS paid, COALESCE(v.value ->> 'fined', '0') AS fined, v.block_number, v.log_index, t.tx_hash
FROM {verifier} v JOIN indexer.event t ON t.block_number = v.block_number AND t.log_index = v.log_index LEFT JOIN accusation a ON a.verifier = v.key
WHERE v.key > %(after)s ORDER BY v.key LIMIT %(limit)s
"""

WORK = """
SELECT provider, model_id, count(DISTINCT gateway) AS gateways, sum(jobs)::bigint AS jobs, sum(chosen)::bigint AS chosen, {reasons},
       min(since) AS since, max(until) AS until
FROM indexer.routing WHERE until > %(from)s AND (%(provider)s::text IS NULL OR provider = %(provider)s)
GROUP BY provider, model_id ORDER BY provider, model_id LIMIT %(limit)s
"""

STANDING = """
SELECT p.key AS provider, (p.value ->> 'jailedUntil')::bigint AS jailed_until, COALESCE(s.value ->> 'active', '0') AS stake,
       (SELECT count(*) FROM {offer} o WHERE o.key > p.key || '/' AND o.key < p.key || '0' AND (o.value -> 'active')::bool) AS offers,
       (SELECT count(*) FROM {allocation} a WHERE a.value ->> 'provider' = p.key AND a.value ->> 'amount' <> '0') AS gateways_with_bond
FROM {provider} p LEFT JOIN {stake} s ON s.key = p.key WHERE p.key = %(provider)s
"""

FACTS = """
SELECT f.key, f.value, f.block_number, f.log_index, e.tx_hash
FROM {kind} f JOIN indexer.event e USING (block_number, log_index)
WHERE (%(after)s::text IS NULL OR f.key > %(after)s) AND f.key >= %(prefix)s AND f.key < %(end)s AND {filters} ORDER BY f.key LIMIT %(limit)s
"""

HISTORY = """
SELECT v.value, v.block_number, v.log_index, v.until, e.tx_hash FROM indexer.version v JOIN indexer.event e USING (block_number, log_index)
WHERE v.kind = %(kind)s AND v.key = %(key)s AND v.block_number < %(before)s ORDER BY v.block_number DESC LIMIT %(limit)s
"""

EVENTS = """
SELECT block_number, log_index, tx_hash, contract, name, sequence, args FROM indexer.event
WHERE (block_number, log_index) < (%(block)s, %(log)s) AND block_number <= %(at)s AND {filters}
ORDER BY block_number DESC, log_index DESC LIMIT %(limit)s
"""
