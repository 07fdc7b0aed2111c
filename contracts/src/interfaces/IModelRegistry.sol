// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Models, by the root of their manifest
/// @notice The first registration of a manifest root wins. It proves no ownership of the weights; it only fixes who is paid the royalty.
interface IModelRegistry {
    enum Status {
        None,
        Active,
        Deprecated
    }

    /// @param cutPoints bit `i` set: the model may be cut before layer `i`
    /// @param toleranceRoot root of the calibrated table of thresholds
    /// @param toleranceAttested whether a quorum has reproduced that table; before it, a proven FAIL only refunds
    struct Model {
        address creator;
        bytes32 manifestRoot;
        uint16 layerCount;
        uint256 cutPoints;
        bytes32 toleranceRoot;
        bool toleranceAttested;
        uint16 royaltyBps;
        address payout;
        Status status;
        string metadataUri;
    }

    /// @notice What a creator registers.
    struct Registration {
        bytes32 manifestRoot;
        uint16 layerCount;
        uint256 cutPoints;
        bytes32 toleranceRoot;
        uint16 royaltyBps;
        address payout;
        string metadataUri;
        bytes32 salt;
    }

    error NoCommitment(bytes32 commitment);
    error CommitmentTooYoung(uint64 readyAt);
    error ModelTaken(bytes32 modelId);
    error RoyaltyTooHigh(uint16 bps, uint16 cap);
    error BadRegistration();
    error NotCreator(address caller);
    error BadAttestation();

    event ModelCommitted(uint64 sequence, bytes32 indexed commitment);
    event ModelRegistered(uint64 sequence, bytes32 indexed modelId, address indexed creator, Model model);
    event ModelStatusChanged(uint64 sequence, bytes32 indexed modelId, Status status);
    event PayoutChanged(uint64 sequence, bytes32 indexed modelId, address payout);
    event ToleranceAttested(uint64 sequence, bytes32 indexed modelId, bytes32 toleranceRoot, uint64 epoch);

    /// @notice First step: `keccak256(abi.encode(registration, creator))`, so that the second cannot be front-run.
    function commit(bytes32 commitment) external;

    /// @notice Second step, at least `commitDelay` later. The id is `keccak256(manifestRoot)`.
    function register(Registration calldata registration) external returns (bytes32 modelId);

    /// @notice Marks that all judges of an epoch have reproduced the tolerance table; slashing for this model is on from here.
    function attestTolerance(bytes32 modelId, uint64 epoch, uint256[] calldata signers, bytes calldata signature) external;

    function setStatus(bytes32 modelId, Status status) external;

    function setPayout(bytes32 modelId, address payout) external;

    function model(bytes32 modelId) external view returns (Model memory);
}
