// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";

import {Guarded} from "../access/Guarded.sol";
import {IModelRegistry} from "../interfaces/IModelRegistry.sol";
import {IVerifierSet} from "../interfaces/IVerifierSet.sol";

/// @notice Documented in IModelRegistry.
contract ModelRegistry is IModelRegistry, Guarded {
    uint16 public constant ROYALTY_CAP_BPS = 2_000;
    bytes32 public constant ATTEST_PURPOSE = "TOLERANCE";

    IVerifierSet public immutable verifiers;
    uint64 public immutable commitDelay;
    uint64 public immutable deprecationDelay;

    mapping(bytes32 commitment => uint64) public committedAt;
    /// @inheritdoc IModelRegistry
    mapping(bytes32 modelId => bytes32) public pendingTolerance;
    mapping(bytes32 modelId => Model) private _models;

    modifier onlyCreator(bytes32 modelId) {
        require(_models[modelId].creator == msg.sender, NotCreator(msg.sender));
        _;
    }

    constructor(address authority, IVerifierSet verifiers_, uint64 commitDelay_, uint64 deprecationDelay_) AccessManaged(authority) {
        verifiers = verifiers_;
        commitDelay = commitDelay_;
        deprecationDelay = deprecationDelay_;
    }

    /// @inheritdoc IModelRegistry
    function commit(bytes32 commitment) external {
        // A copied commitment is useless to the copier, but it must not restart the first committer's clock.
        if (committedAt[commitment] != 0) return;
        committedAt[commitment] = uint64(block.timestamp);
        emit ModelCommitted(_next(), commitment);
    }

    /// @inheritdoc IModelRegistry
    function register(Registration calldata r) external whenOpen returns (bytes32 modelId) {
        bytes32 commitment = keccak256(abi.encode(r, msg.sender));
        uint64 at = committedAt[commitment];
        require(at != 0, NoCommitment(commitment));
        require(block.timestamp >= at + commitDelay, CommitmentTooYoung(at + commitDelay));
        require(r.royaltyBps <= ROYALTY_CAP_BPS, RoyaltyTooHigh(r.royaltyBps, ROYALTY_CAP_BPS));
        // A cut point is one bit of a word.
        require(r.payout != address(0) && r.layerCount != 0 && r.layerCount <= 256 && r.manifestRoot != 0, BadRegistration());
        modelId = keccak256(abi.encode(r.manifestRoot));
        require(_models[modelId].status == Status.None, ModelTaken(modelId));
        _models[modelId] = Model({
            creator: msg.sender,
            manifestRoot: r.manifestRoot,
            layerCount: r.layerCount,
            cutPoints: r.cutPoints,
            toleranceRoot: r.toleranceRoot,
            toleranceAttested: false,
            royaltyBps: r.royaltyBps,
            payout: r.payout,
            status: Status.Active,
            metadataUri: r.metadataUri,
            deprecatedFrom: 0
        });
        emit ModelRegistered(_next(), modelId, msg.sender, _models[modelId]);
    }

    /// @inheritdoc IModelRegistry
    function publishTolerance(bytes32 modelId, bytes32 toleranceRoot) external onlyCreator(modelId) {
        require(toleranceRoot != 0, BadRegistration());
        Model storage m = _models[modelId];
        if (m.toleranceAttested) pendingTolerance[modelId] = toleranceRoot;
        else m.toleranceRoot = toleranceRoot;
        emit TolerancePublished(_next(), modelId, toleranceRoot);
    }

    /// @inheritdoc IModelRegistry
    function attestTolerance(bytes32 modelId, bytes32 toleranceRoot, uint64 epoch, uint256[] calldata absent, bytes calldata signature)
        external
    {
        Model storage m = _models[modelId];
        require(statusOf(modelId) == Status.Active, NotActive(modelId));
        bool first = !m.toleranceAttested && toleranceRoot == m.toleranceRoot;
        require(toleranceRoot != 0 && (first || toleranceRoot == pendingTolerance[modelId]), BadAttestation());
        require(verifiers.isRecent(epoch), BadAttestation());
        bytes32 payload = keccak256(abi.encode(modelId, toleranceRoot));
        IVerifierSet.Panel memory panel = verifiers.fullPanel(epoch, address(0));
        (bool ok,) = verifiers.verifyQuorum(ATTEST_PURPOSE, address(this), epoch, payload, panel, absent, signature);
        require(ok, BadAttestation());
        (m.toleranceRoot, m.toleranceAttested) = (toleranceRoot, true);
        delete pendingTolerance[modelId];
        emit ToleranceAttested(_next(), modelId, toleranceRoot, epoch);
    }

    /// @inheritdoc IModelRegistry
    function deprecate(bytes32 modelId) external onlyCreator(modelId) {
        require(_models[modelId].deprecatedFrom == 0, NotActive(modelId));
        uint64 from = uint64(block.timestamp) + deprecationDelay;
        _models[modelId].deprecatedFrom = from;
        emit ModelDeprecated(_next(), modelId, from);
    }

    /// @inheritdoc IModelRegistry
    function setPayout(bytes32 modelId, address payout) external onlyCreator(modelId) {
        require(payout != address(0), BadRegistration());
        _models[modelId].payout = payout;
        emit PayoutChanged(_next(), modelId, payout);
    }

    /// @inheritdoc IModelRegistry
    function model(bytes32 modelId) external view returns (Model memory m) {
        m = _models[modelId];
        m.status = statusOf(modelId);
    }

    /// @inheritdoc IModelRegistry
    function statusOf(bytes32 modelId) public view returns (Status) {
        Model storage m = _models[modelId];
        uint64 from = m.deprecatedFrom;
        return from != 0 && from <= block.timestamp ? Status.Deprecated : m.status;
    }

    /// @inheritdoc IModelRegistry
    function canCut(bytes32 modelId, uint16 first, uint16 end) external view returns (bool) {
        Model storage m = _models[modelId];
        uint16 layers = m.layerCount;
        if (first >= end || end > layers) return false;
        uint256 cuts = m.cutPoints;
        return (first == 0 || (cuts >> first) & 1 == 1) && (end == layers || (cuts >> end) & 1 == 1);
    }

    /// @inheritdoc IModelRegistry
    function royaltyOf(bytes32 modelId) external view returns (address payout, uint16 bps) {
        return (_models[modelId].payout, _models[modelId].royaltyBps);
    }

    /// @inheritdoc IModelRegistry
    function isAttested(bytes32 modelId) external view returns (bool) {
        return _models[modelId].toleranceAttested;
    }

    function _pausable(bytes4 selector) internal pure override returns (bool) {
        return selector == this.register.selector;
    }
}
