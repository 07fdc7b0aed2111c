// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";

import {Sequenced} from "../access/Sequenced.sol";
import {ICommitmentLog} from "../interfaces/ICommitmentLog.sol";
import {IProviderRegistry} from "../interfaces/IProviderRegistry.sol";
import {IVerifierSet} from "../interfaces/IVerifierSet.sol";

/// @notice Documented in ICommitmentLog.
contract CommitmentLog is ICommitmentLog, AccessManaged, Sequenced {
    uint32 public constant NEWCOMER_RATE = 3_000_000;
    uint32 public constant FLOOR_RATE = 20_000;
    /// @notice Receipts past their window after which a newcomer's rate has halved.
    uint64 public constant RATE_HALVING = 100;

    IProviderRegistry public immutable registry;
    IVerifierSet public immutable verifiers;
    uint64 public immutable challengeWindow;

    /// @inheritdoc ICommitmentLog
    mapping(uint64 epoch => bytes32) public tip;
    mapping(address provider => Batch[]) private _batches;
    mapping(address provider => uint64) private _maturedBatches;
    mapping(address provider => uint64) private _recordFrom;

    constructor(address authority, IProviderRegistry registry_, IVerifierSet verifiers_, uint64 challengeWindow_) AccessManaged(authority) {
        registry = registry_;
        verifiers = verifiers_;
        challengeWindow = challengeWindow_;
    }

    /// @inheritdoc ICommitmentLog
    function anchor(bytes32 root, uint64 firstNumber, uint64 lastNumber_, uint128 amount, uint64 tokens) external returns (uint64 batchId) {
        address provider = registry.providerOf(msg.sender);
        require(provider != address(0) && registry.providerInfo(provider).operator == msg.sender, NotOperator(msg.sender));
        require(root != 0 && lastNumber_ >= firstNumber, EmptyBatch());
        uint64 expected = lastNumber(provider) + 1;
        require(firstNumber == expected, NumberGap(expected, firstNumber));
        Batch[] storage batches = _batches[provider];
        batchId = uint64(batches.length);
        uint128 cumulative = amount + (batchId == 0 ? 0 : batches[batchId - 1].cumulativeAmount);
        uint64 epoch = verifiers.currentEpoch();
        _advanceMatured(provider);
        batches.push(Batch(root, firstNumber, lastNumber_, uint64(block.timestamp), epoch, amount, cumulative, tokens, auditRate(provider)));
        bytes32 newTip = keccak256(abi.encode(tip[epoch], provider, batchId, root, firstNumber, lastNumber_, amount, tokens));
        tip[epoch] = newTip;
        emit BatchAnchored(_next(), provider, batchId, epoch, batches[batchId], newTip);
    }

    /// @inheritdoc ICommitmentLog
    function resetRecord(address provider) external restricted {
        _recordFrom[provider] = lastNumber(provider);
        emit RecordReset(_next(), provider);
    }

    /// @inheritdoc ICommitmentLog
    function batch(address provider, uint64 batchId) public view returns (Batch memory) {
        require(batchId < _batches[provider].length, NoSuchBatch(provider, batchId));
        return _batches[provider][batchId];
    }

    /// @inheritdoc ICommitmentLog
    function batchCount(address provider) external view returns (uint64) {
        return uint64(_batches[provider].length);
    }

    /// @inheritdoc ICommitmentLog
    function lastNumber(address provider) public view returns (uint64) {
        uint256 count = _batches[provider].length;
        return count == 0 ? 0 : _batches[provider][count - 1].lastNumber;
    }

    /// @inheritdoc ICommitmentLog
    function maturedAmount(address provider, uint64 batchId) external view returns (uint128) {
        Batch memory b = batch(provider, batchId);
        uint64 until = b.anchoredAt + challengeWindow;
        require(block.timestamp > until, WindowOpen(until));
        return b.cumulativeAmount;
    }

    /// @inheritdoc ICommitmentLog
    function auditRate(address provider) public view returns (uint32) {
        uint64 matured = _maturedBatches[provider];
        uint64 last = matured == 0 ? 0 : _batches[provider][matured - 1].lastNumber;
        uint64 from = _recordFrom[provider];
        uint64 verified = last > from ? last - from : 0;
        uint256 rate = uint256(NEWCOMER_RATE) * RATE_HALVING / (RATE_HALVING + verified);
        return rate < FLOOR_RATE ? FLOOR_RATE : uint32(rate);
    }

    /// @dev At most four steps a call, so that a provider that anchors keeps up and no call grows without bound.
    function _advanceMatured(address provider) private {
        uint64 matured = _maturedBatches[provider];
        Batch[] storage batches = _batches[provider];
        for (uint256 step; step < 4 && matured < batches.length; ++step) {
            if (block.timestamp <= batches[matured].anchoredAt + challengeWindow) break;
            ++matured;
        }
        _maturedBatches[provider] = matured;
    }
}
