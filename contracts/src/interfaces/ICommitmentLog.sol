// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Batches of receipts
/// @notice A provider anchors its receipts, consecutive and without gaps. An epoch's tip is the hash chain over all batches of that epoch.
/// @dev Assumptions: `challengeWindow` is longer than an epoch, the draw window and a replay together; `retention` is longer than any dispute
/// window. The newest RING batches of a provider are kept; an older one lives on in its event. Tips are kept for TIP_RING epochs.
interface ICommitmentLog {
    /// @notice A batch as its event tells it.
    /// @param cumulativeAmount of this and all earlier batches of the provider, in wei
    /// @param auditRate the provider's rate when it anchored, so that everyone draws by the same number
    struct Batch {
        bytes32 root;
        uint64 firstNumber;
        uint64 lastNumber;
        uint64 anchoredAt;
        uint64 epoch;
        uint128 amount;
        uint128 cumulativeAmount;
        uint64 tokens;
        uint32 auditRate;
    }

    /// @notice What is kept of a batch.
    struct Anchor {
        bytes32 root;
        uint64 firstNumber;
        uint64 lastNumber;
        uint64 anchoredAt;
        uint64 epoch;
        uint128 cumulativeAmount;
        uint32 auditRate;
    }

    error NotAllowed(address caller);
    error NotOperator(address caller);
    error NumberGap(uint64 expected, uint64 got);
    error EmptyBatch();
    error TooManyReceipts(uint64 count);
    error RingFull(uint64 until);
    error NoSuchBatch(address provider, uint64 batchId);
    error WindowOpen(uint64 until);

    event BatchAnchored(uint64 sequence, address indexed provider, uint64 indexed batchId, uint64 indexed epoch, Batch batch, bytes32 tip);
    event BatchMatured(uint64 sequence, address indexed provider, uint64 batchId, uint256 cumulativeAmount, uint64 record);
    event RecordReset(uint64 sequence, address indexed provider);

    /// @notice Anchors receipts `firstNumber..lastNumber`; the first must follow the provider's last. Called by the operator key.
    function anchor(bytes32 root, uint64 firstNumber, uint64 lastNumber, uint128 amount, uint64 tokens) external returns (uint64 batchId);

    /// @notice Counts everything up to `batchId`, whose window must have passed, as done: for the audit rate and for the stake that fees lock.
    /// Returns the total amount up to it. Anybody may; Settlement does at each release.
    function mature(address provider, uint64 batchId) external returns (uint128 cumulativeAmount);

    /// @notice Starts the provider's audit record anew after a proven fault. Disputes only.
    function resetRecord(address provider) external;

    /// @notice A batch that is still kept. Reverts with NoSuchBatch otherwise.
    function batch(address provider, uint64 batchId) external view returns (Anchor memory);

    function batchCount(address provider) external view returns (uint64);

    function lastNumber(address provider) external view returns (uint64);

    /// @notice Hash chain over all batches of the epoch, its low 40 bits zero; zero where there was none or it is no longer kept.
    function tip(uint64 epoch) external view returns (bytes32);

    /// @notice Total amount of the batches up to `batchId`. Reverts with WindowOpen while that batch may still be challenged.
    function maturedAmount(address provider, uint64 batchId) external view returns (uint128);

    /// @notice Fees of batches that have not been counted as matured, in wei: what the provider's own stake must cover.
    function inFlight(address provider) external view returns (uint256);

    /// @notice Expected number of checks of each receipt of the provider, in parts per million: 3 for a newcomer, falling to 0.02.
    function auditRate(address provider) external view returns (uint32 partsPerMillion);
}
