// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Verifiers, epochs and duties
/// @notice A key and its weight count from the second epoch after its registration, so the set of an epoch is known one full epoch ahead.
/// @dev Assumptions: a verifier's stake sits in Staking under the same address; the set is small enough to be walked (a later issue keeps aggregates).
interface IVerifierSet {
    /// @param activeFrom first epoch in which the key counts
    /// @param activeUntil first epoch in which it no longer counts; the maximum while it stays
    struct Member {
        address verifier;
        uint64 activeFrom;
        uint64 activeUntil;
        uint128 weight;
        string endpoint;
        bytes publicKey;
    }

    error StakeBelowMinimum(uint256 has, uint256 needs);
    error AlreadyMember(address verifier);
    error KeyTaken();
    error BadProofOfPossession();
    error NotMember(address verifier, uint64 epoch);
    error DutiesClosed(uint64 epoch);
    error AlreadyPosted(address verifier, uint64 epoch);
    error ZeroRoot();

    event VerifierRegistered(
        uint64 sequence, address indexed verifier, uint256 index, bytes publicKey, uint128 weight, uint64 activeFrom, string endpoint
    );
    event VerifierExited(uint64 sequence, address indexed verifier, uint64 activeUntil);
    event DutiesPosted(uint64 sequence, address indexed verifier, uint64 indexed epoch, bytes32 root, uint32 count);

    /// @notice Joins with a G2 key and its signature on (purpose, chain, contract, verifier, key).
    function register(bytes calldata publicKey, bytes calldata proofOfPossession, string calldata endpoint) external;

    function exit() external;

    /// @notice Posts the root over the caller's signature and results of a closed epoch, once, while its duties are open.
    function postDuties(uint64 epoch, bytes32 root, uint32 count) external;

    function currentEpoch() external view returns (uint64);

    /// @notice The second at which `epoch` begins.
    function epochStart(uint64 epoch) external view returns (uint64);

    /// @notice Whether duties of `epoch` may still be posted, or the epoch still runs.
    function dutiesOpen(uint64 epoch) external view returns (bool);

    /// @notice Whether an epoch is over or running, and its keys still count for quorums.
    function isRecent(uint64 epoch) external view returns (bool);

    function memberCount() external view returns (uint256);

    function member(uint256 index) external view returns (Member memory);

    function isActive(address verifier, uint64 epoch) external view returns (bool);

    function dutyRoot(uint64 epoch, address verifier) external view returns (bytes32);

    function dutyRootsPosted(uint64 epoch) external view returns (uint32);

    /// @notice The bytes that a member signs: purpose, chain, the contract it is for, epoch and payload.
    function messageFor(bytes32 purpose, address target, uint64 epoch, bytes32 payload) external view returns (bytes memory);

    /// @notice Whether the members at `signers` (strictly increasing) of `epoch` signed the payload and make a quorum without `excluded`: all
    /// that remain while those are fewer than seven, else two thirds by weight.
    function verifyQuorum(
        bytes32 purpose,
        address target,
        uint64 epoch,
        bytes32 payload,
        uint256[] calldata signers,
        bytes calldata signature,
        address excluded
    ) external view returns (bool);

    /// @notice How many members of `epoch` remain without `excluded`.
    function remaining(uint64 epoch, address excluded) external view returns (uint256 count, uint256 weight);
}
