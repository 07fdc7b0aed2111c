"""The API's answers as SQL over the events."""

PROVIDERS = """
WITH of AS (SELECT args ->> 'provider' AS provider, * FROM indexer.event)
SELECT r.provider,
       r.args ->> 'operator' AS operator,
       COALESCE((SELECT o.args ->> 'endpoint' FROM of o WHERE o.provider = r.provider AND o.name IN ('ProviderRegistered', 'EndpointChanged')
                 ORDER BY block_number DESC, log_index DESC LIMIT 1), '') AS endpoint,
       (SELECT COALESCE(e.args -> 'slash' ->> 'active', e.args ->> 'active') FROM indexer.event e
         WHERE e.contract = 'Staking' AND e.args ->> 'account' = r.provider
           AND (e.name IN ('Staked', 'Slashed') OR (e.name = 'UnbondingStarted' AND e.args ->> 'delegator' = r.provider))
         ORDER BY block_number DESC, log_index DESC LIMIT 1) AS stake,
       (SELECT COALESCE(sum((e.args -> 'slash' ->> 'amount')::numeric), 0)::text FROM indexer.event e
         WHERE e.name = 'Slashed' AND e.args ->> 'account' = r.provider) AS slashed,
       (SELECT COALESCE(jsonb_agg(g.args - 'provider' ORDER BY g.block_number, g.log_index), '[]') FROM of g
         WHERE g.provider = r.provider AND g.name = 'GpuRegistered' AND NOT EXISTS (
             SELECT 1 FROM of x WHERE x.provider = r.provider AND x.name = 'GpuRetired' AND x.args -> 'gpuId' = g.args -> 'gpuId')) AS gpus,
       (SELECT COALESCE(jsonb_agg(m.args -> 'offer' ORDER BY m.block_number, m.log_index), '[]') FROM of m
         WHERE m.provider = r.provider AND m.name = 'OfferMade' AND NOT EXISTS (
             SELECT 1 FROM of w WHERE w.provider = r.provider AND w.name = 'OfferWithdrawn' AND w.args -> 'offerId' = m.args -> 'offerId')
       ) AS offers,
       COALESCE((SELECT j.name = 'ProviderJailed' FROM of j WHERE j.provider = r.provider AND j.name IN ('ProviderJailed', 'ProviderUnjailed')
                 ORDER BY block_number DESC, log_index DESC LIMIT 1), false) AS jailed,
       (SELECT COALESCE(max((b.args -> 'batch' ->> 'lastNumber')::bigint), 0) FROM of b
         WHERE b.provider = r.provider AND b.name = 'BatchAnchored') AS receipts,
       (SELECT COALESCE(sum((p.args -> 'payout' -> 'parts' ->> 'provider')::numeric - (p.args -> 'payout' ->> 'delegators')::numeric), 0)::text
          FROM of p WHERE p.provider = r.provider AND p.name = 'Released') AS paid,
       (SELECT COALESCE(e.args -> 'slash' ->> 'delegated', e.args ->> 'delegated', e.args ->> 'active', '0') FROM indexer.event e
         WHERE e.contract = 'Staking' AND e.args ->> 'account' = r.provider
           AND (e.name IN ('Delegated', 'PoolEarned', 'Slashed') OR (e.name = 'UnbondingStarted' AND e.args ->> 'delegator' <> r.provider))
         ORDER BY block_number DESC, log_index DESC LIMIT 1) AS delegated
FROM of r WHERE r.name = 'ProviderRegistered' ORDER BY r.block_number, r.log_index
"""

REWARDS = """
SELECT account, kind, sum(amount)::text AS amount, count(*) AS payments, max(tx_hash) FILTER (WHERE newest = 1) AS newest_tx FROM (
    SELECT *, row_number() OVER (PARTITION BY account, kind ORDER BY block_number DESC, log_index DESC) AS newest FROM (
        SELECT args ->> 'provider' AS account, 'provider' AS kind,
               (args -> 'payout' -> 'parts' ->> 'provider')::numeric - (args -> 'payout' ->> 'delegators')::numeric AS amount,
               tx_hash, block_number, log_index FROM indexer.event WHERE name = 'Released'
        UNION ALL
        SELECT args ->> 'provider', 'delegators', (args -> 'payout' ->> 'delegators')::numeric, tx_hash, block_number, log_index
          FROM indexer.event WHERE name = 'Released' AND args -> 'payout' ->> 'delegators' <> '0'
        UNION ALL
        SELECT args ->> 'provider', 'emission', (args ->> 'amount')::numeric - (args ->> 'toDelegators')::numeric, tx_hash, block_number, log_index
          FROM indexer.event WHERE name = 'RewardClaimed'
        UNION ALL
        SELECT args ->> 'provider', 'delegators', (args ->> 'toDelegators')::numeric, tx_hash, block_number, log_index
          FROM indexer.event WHERE name = 'RewardClaimed' AND args ->> 'toDelegators' <> '0'
        UNION ALL
        SELECT args -> 'payout' ->> 'royaltyTo', 'royalty', (args -> 'payout' -> 'parts' ->> 'royalty')::numeric,
               tx_hash, block_number, log_index FROM indexer.event WHERE name = 'Released'
        UNION ALL
        SELECT args ->> 'verifier', 'verifier', (args ->> 'amount')::numeric, tx_hash, block_number, log_index
          FROM indexer.event WHERE name = 'VerifierPaid'
        UNION ALL
        SELECT 'treasury', 'treasury', (args ->> 'toTreasury')::numeric, tx_hash, block_number, log_index FROM indexer.event WHERE name = 'Swept'
        UNION ALL
        SELECT 'burned', 'burned', (args ->> 'burned')::numeric, tx_hash, block_number, log_index FROM indexer.event WHERE name = 'Swept'
    ) payment
) ranked GROUP BY account, kind ORDER BY kind, account
"""

USAGE = """
SELECT payer, gateway, model_id, count(DISTINCT job_id) AS jobs, sum(amount)::text AS amount,
       sum(prompt_tokens - (body -> 'message' ->> 'cachedCount')::int) FILTER (WHERE layers LIKE '0-%%') AS prompt_tokens,
       sum(completion_tokens) FILTER (WHERE layers LIKE '0-%%') AS completion_tokens
FROM indexer.receipt GROUP BY payer, gateway, model_id ORDER BY payer
"""

BATCHES = """
SELECT args ->> 'provider' AS provider, (args ->> 'batchId')::bigint AS batch_id, (args ->> 'epoch')::bigint AS epoch, args -> 'batch' AS batch,
       args ->> 'tip' AS tip, tx_hash, block_number
FROM indexer.event WHERE name = 'BatchAnchored' ORDER BY block_number DESC, log_index DESC LIMIT %(limit)s
"""

JOBS = """
WITH batch AS (
    SELECT args ->> 'provider' AS provider, (args ->> 'batchId')::bigint AS batch_id, (args ->> 'epoch')::bigint AS epoch, tx_hash,
           (args -> 'batch' ->> 'firstNumber')::bigint AS first, (args -> 'batch' ->> 'lastNumber')::bigint AS last
    FROM indexer.event WHERE name = 'BatchAnchored'
), stage AS (
    SELECT r.*, (r.body -> 'message' ->> 'cachedCount')::int AS cached, b.batch_id, b.tx_hash,
           (SELECT count(*) FROM indexer.event d WHERE d.name = 'DutiesPosted' AND (d.args ->> 'epoch')::bigint = b.epoch
              AND (d.args ->> 'count')::bigint > 0) AS checks,
           (SELECT s.args ->> 'status' FROM indexer.event o
              JOIN indexer.event s ON s.name = 'DisputeClosed' AND s.args -> 'disputeId' = o.args -> 'disputeId'
             WHERE o.name = 'DisputeOpened' AND o.args ->> 'provider' = r.provider
               AND (o.args -> 'claim' -> 'receipt' ->> 'number')::bigint = r.number
               AND o.args -> 'claim' ->> 'kind' <> '2' LIMIT 1) AS dispute -- 2: about a batch's whole list, by its first number
    FROM indexer.receipt r LEFT JOIN batch b ON b.provider = r.provider AND r.number BETWEEN b.first AND b.last
    WHERE %(job)s::text IS NULL OR job_id = %(job)s
), judged AS (
    SELECT *, CASE WHEN dispute = '3' THEN 'convicted' WHEN batch_id IS NULL THEN 'signed'
                   WHEN checks > 0 AND dispute IS DISTINCT FROM '6' THEN 'verified' -- a planted fault was convicted, and its dispute called off
                   ELSE 'anchored' END AS status,
           sum(completion_tokens) OVER (PARTITION BY job_id, layers) AS completion, -- a stage and its replacement did a part each
           sum(prompt_tokens - cached) OVER (PARTITION BY job_id, layers) AS prompt
    FROM stage
)
SELECT job_id, min(payer) AS payer, min(gateway) AS gateway, min(model_id) AS model_id, sum(amount)::text AS amount,
       max(prompt) AS prompt_tokens, max(completion) AS completion_tokens,
       CASE WHEN bool_or(status = 'convicted') THEN 'convicted' WHEN bool_and(status = 'verified') THEN 'verified'
            WHEN bool_and(status <> 'signed') THEN 'anchored' ELSE 'signed' END AS status,
       jsonb_agg(jsonb_build_object('provider', provider, 'layers', layers, 'number', number, 'amount', amount::text, 'batch', batch_id,
                                    'tx', tx_hash, 'checks', checks, 'status', status) ORDER BY (split_part(layers, '-', 1))::int, number) AS stages
FROM judged GROUP BY job_id ORDER BY max(received_at) DESC LIMIT %(limit)s
"""

DISPUTES = """
SELECT (o.args ->> 'disputeId')::bigint AS dispute_id, o.args ->> 'provider' AS provider, o.args ->> 'challenger' AS challenger,
       o.args ->> 'evidenceId' AS evidence_id, o.args -> 'claim' -> 'kind' AS kind, o.args -> 'claim' -> 'receipt' AS receipt,
       o.tx_hash AS opened_tx, c.tx_hash AS closed_tx,
       COALESCE(c.args -> 'status', CASE WHEN v.name = 'VerdictGiven' THEN '2' ELSE '1' END::jsonb) AS status,
       (SELECT a.args ->> 'appellant' FROM indexer.event a WHERE a.name = 'Appealed' AND a.args -> 'disputeId' = o.args -> 'disputeId' LIMIT 1)
         AS appellant,
       COALESCE((v.args ->> 'deadline')::bigint, (o.args -> 'dispute' ->> 'deadline')::bigint) AS deadline,
       COALESCE(c.args ->> 'slashed', '0') AS slashed, c.args ->> 'refundOrdered' AS refund_ordered
FROM indexer.event o
LEFT JOIN indexer.event c ON c.name = 'DisputeClosed' AND c.args -> 'disputeId' = o.args -> 'disputeId'
LEFT JOIN LATERAL (
    SELECT name, args FROM indexer.event s WHERE s.name IN ('VerdictGiven', 'Appealed', 'Escalated') AND s.args -> 'disputeId' = o.args -> 'disputeId'
    ORDER BY block_number DESC, log_index DESC LIMIT 1
) v ON true
WHERE o.name = 'DisputeOpened' ORDER BY dispute_id DESC
"""

CHECKS = """
SELECT args ->> 'verifier' AS verifier, (args ->> 'epoch')::bigint AS epoch, (args ->> 'count')::int AS count, args ->> 'root' AS root, tx_hash
FROM indexer.event WHERE name = 'DutiesPosted' ORDER BY block_number DESC, log_index DESC
"""

VERIFIERS = """
WITH member AS (
    SELECT DISTINCT args ->> 'verifier' AS verifier FROM indexer.event WHERE name = 'VerifierRegistered'
), duty AS (
    SELECT args ->> 'verifier' AS verifier, count(*) AS epochs, sum((args ->> 'count')::bigint) AS checks
    FROM indexer.event WHERE name = 'DutiesPosted' GROUP BY 1
), plant AS (
    SELECT args ->> 'verifier' AS verifier, count(*) FILTER (WHERE args ->> 'answer' <> '1') AS drawn,
           count(*) FILTER (WHERE args ->> 'answer' = '2') AS found, count(*) FILTER (WHERE args ->> 'answer' = '3') AS undecided,
           count(*) FILTER (WHERE args ->> 'answer' IN ('4', '5')) AS missed, sum((args ->> 'fined')::numeric) AS fined
    FROM indexer.event WHERE name = 'PlantAnswered' GROUP BY 1
), accusation AS (
    SELECT o.args ->> 'challenger' AS verifier, count(*) AS accusations, count(*) FILTER (WHERE c.args ->> 'status' IN ('3', '6')) AS upheld,
           count(*) FILTER (WHERE c.args ->> 'status' = '4') AS acquitted
    FROM indexer.event o LEFT JOIN indexer.event c ON c.name = 'DisputeClosed' AND c.args -> 'disputeId' = o.args -> 'disputeId'
    WHERE o.name = 'DisputeOpened' GROUP BY 1
), pay AS (
    SELECT args ->> 'verifier' AS verifier, sum((args ->> 'amount')::numeric) AS paid FROM indexer.event WHERE name = 'VerifierPaid' GROUP BY 1
)
SELECT verifier, COALESCE(epochs, 0) AS epochs, COALESCE(checks, 0)::bigint AS checks, COALESCE(drawn, 0) AS plants_drawn,
       COALESCE(found, 0) AS plants_found, COALESCE(undecided, 0) AS plants_undecided, COALESCE(missed, 0) AS plants_missed,
       COALESCE(accusations, 0) AS accusations, COALESCE(upheld, 0) AS accusations_upheld, COALESCE(acquitted, 0) AS accusations_acquitted,
       (found::numeric / NULLIF(drawn, 0))::float AS detection_rate,
       (COALESCE(acquitted, 0)::numeric / NULLIF(checks, 0))::float AS false_accusation_rate,
       COALESCE(paid, 0)::text AS paid, COALESCE(fined, 0)::text AS fined
FROM member LEFT JOIN duty USING (verifier) LEFT JOIN plant USING (verifier) LEFT JOIN accusation USING (verifier) LEFT JOIN pay USING (verifier)
ORDER BY verifier
"""

HOLDERS = """
SELECT DISTINCT account FROM (
    SELECT args ->> 'from' AS account FROM indexer.event WHERE contract = 'FuncToken' AND name = 'Transfer'
    UNION SELECT args ->> 'to' FROM indexer.event WHERE contract = 'FuncToken' AND name = 'Transfer'
) a WHERE account <> '0x0000000000000000000000000000000000000000' ORDER BY account
"""
