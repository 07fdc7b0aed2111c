// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Sequenced} from "../access/Sequenced.sol";
import {IModelRegistry} from "../interfaces/IModelRegistry.sol";
import {IVerifierSet} from "../interfaces/IVerifierSet.sol";

/// @notice Documented in IModelRegistry.
contract ModelRegistry is IModelRegistry, Sequenced {
    uint16 public constant ROYALTY_CAP_BPS = 2_000;
    bytes32 public constant ATTEST_PURPOSE = "TOLERANCE";

    IVerifierSet public immutable verifiers;
    uint64 public immutable commitDelay;

    mapping(bytes32 commitment => uint64) public committedAt;
    mapping(bytes32 modelId => Model) private _models;

    constructor(IVerifierSet verifiers_, uint64 commitDelay_) {
        verifiers = verifiers_;
        commitDelay = commitDelay_;
    }

    /// @inheritdoc IModelRegistry
    function commit(bytes32 commitment) external {
        // A copied commitment is useless to the copier, but it must not restart the first committer's clock.
        if (committedAt[commitment] != 0) return;
        committedAt[commitment] = uint64(block.timestamp);
        emit ModelCommitted(_next(), commitment);
    }

    /// @inheritdoc IModelRegistry
    function register(Registration calldata r) external returns (bytes32 modelId) {
        bytes32 commitment = keccak256(abi.encode(r, msg.sender));
        uint64 at = committedAt[commitment];
        require(at != 0, NoCommitment(commitment));
        require(block.timestamp >= at + commitDelay, CommitmentTooYoung(at + commitDelay));
        require(r.royaltyBps <= ROYALTY_CAP_BPS, RoyaltyTooHigh(r.royaltyBps, ROYALTY_CAP_BPS));
        require(r.payout != address(0) && r.layerCount != 0 && r.manifestRoot != 0, BadRegistration());
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
            metadataUri: r.metadataUri
        });
        emit ModelRegistered(_next(), modelId, msg.sender, _models[modelId]);
    }

    /// @inheritdoc IModelRegistry
    function attestTolerance(bytes32 modelId, uint64 epoch, uint256[] calldata signers, bytes calldata signature) external {
        Model storage m = _models[modelId];
        require(m.status == Status.Active && m.toleranceRoot != 0 && verifiers.isRecent(epoch), BadAttestation());
        bytes32 payload = keccak256(abi.encode(modelId, m.toleranceRoot));
        require(verifiers.verifyQuorum(ATTEST_PURPOSE, address(this), epoch, payload, signers, signature, address(0)), BadAttestation());
        m.toleranceAttested = true;
        emit ToleranceAttested(_next(), modelId, m.toleranceRoot, epoch);
    }

    /// @inheritdoc IModelRegistry
    function setStatus(bytes32 modelId, Status status) external {
        require(_models[modelId].creator == msg.sender, NotCreator(msg.sender));
        require(status != Status.None, BadRegistration());
        _models[modelId].status = status;
        emit ModelStatusChanged(_next(), modelId, status);
    }

    /// @inheritdoc IModelRegistry
    function setPayout(bytes32 modelId, address payout) external {
        require(_models[modelId].creator == msg.sender, NotCreator(msg.sender));
        require(payout != address(0), BadRegistration());
        _models[modelId].payout = payout;
        emit PayoutChanged(_next(), modelId, payout);
    }

    /// @inheritdoc IModelRegistry
    function model(bytes32 modelId) external view returns (Model memory) {
        return _models[modelId];
    }
}
