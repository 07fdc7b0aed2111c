// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Models, by the root of their manifest
/// @notice The first registration of a manifest root wins. It proves no ownership of the weights; it only fixes who is paid the royalty.
/// @dev Assumptions: the royalty never changes; deprecation waits, so that offers and vouchers run out; a new tolerance table replaces an attested
/// one only once it is attested itself, so a creator cannot switch slashing off.
interface IModelRegistry {
    enum Status {
        None,
        Active,
        Deprecated
    }

    /// @param cutPoints bit `i` set: the model may be cut before layer `i`
    /// @param toleranceRoot root of the calibrated table of thresholds
    /// @param deprecatedFrom zero, or when the model is or was given up
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
        uint64 deprecatedFrom;
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
    error NotActive(bytes32 modelId);

    event ModelCommitted(uint64 sequence, bytes32 indexed commitment);
    event ModelRegistered(uint64 sequence, bytes32 indexed modelId, address indexed creator, Model model);
    event ModelDeprecated(uint64 sequence, bytes32 indexed modelId, uint64 from);
    event TolerancePublished(uint64 sequence, bytes32 indexed modelId, bytes32 toleranceRoot);
    event PayoutChanged(uint64 sequence, bytes32 indexed modelId, address payout);
    event ToleranceAttested(uint64 sequence, bytes32 indexed modelId, bytes32 toleranceRoot, uint64 epoch);

    /// @notice First step: `keccak256(abi.encode(registration, creator))`, so that the second cannot be front-run.
    function commit(bytes32 commitment) external;

    /// @notice Second step, at least `commitDelay` later. The id is `keccak256(manifestRoot)`.
    function register(Registration calldata registration) external returns (bytes32 modelId);

    /// @notice Proposes another tolerance table. Until a quorum has attested it, the attested one, if any, stays in force.
    function publishTolerance(bytes32 modelId, bytes32 toleranceRoot) external;

    /// @notice Marks that the verifiers of an epoch have reproduced a table that its creator published; slashing for this model is on from here.
    /// `absent` are the seats, strictly increasing, that did not sign.
    function attestTolerance(bytes32 modelId, bytes32 toleranceRoot, uint64 epoch, uint256[] calldata absent, bytes calldata signature)
        external;

    /// @notice Gives the model up `deprecationDelay` from now: no new offers from then on, vouchers are honoured for good. Cannot be taken back.
    function deprecate(bytes32 modelId) external;

    function setPayout(bytes32 modelId, address payout) external;

    function model(bytes32 modelId) external view returns (Model memory);

    function statusOf(bytes32 modelId) external view returns (Status);

    /// @notice Whether layers `[first, end)` are a stage that the model's cut points allow.
    function canCut(bytes32 modelId, uint16 first, uint16 end) external view returns (bool);

    /// @notice Where the royalty goes and how much it is; zero for an unknown model.
    function royaltyOf(bytes32 modelId) external view returns (address payout, uint16 bps);

    function isAttested(bytes32 modelId) external view returns (bool);

    /// @notice The published table that is not attested yet, or zero.
    function pendingTolerance(bytes32 modelId) external view returns (bytes32);
}
