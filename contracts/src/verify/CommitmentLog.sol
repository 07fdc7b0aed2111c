// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Sequenced} from "../access/Sequenced.sol";
import {ICommitmentLog} from "../interfaces/ICommitmentLog.sol";
import {IProviderRegistry} from "../interfaces/IProviderRegistry.sol";

/// @notice Documented in ICommitmentLog.
contract CommitmentLog is ICommitmentLog, Sequenced {
    using SafeCast for uint256;

    uint32 public constant NEWCOMER_RATE = 3_000_000;
    uint32 public constant FLOOR_RATE = 20_000;
    /// @notice Receipts past their window after which a newcomer's rate has halved.
    uint64 public constant RATE_HALVING = 100;
    /// @notice Batches of a provider that are kept. Writing over an old one costs a quarter of a new word.
    uint64 public constant RING = 1_024;
    uint64 public constant TIP_RING = 1_024;
    uint256 private constant EPOCH_BITS = 40;

    /// @notice Who reads and who resets, fixed for good.
    struct Wiring {
        IProviderRegistry registry;
        address disputes;
    }

    /// @dev A batch in two words; the second, from its low end: audit rate (24 bits), cumulative amount (96), epoch (32), time (40), count of
    /// receipts (24), last number (40). Packed by hand, so that it is written once.
    struct Kept {
        bytes32 root;
        uint256 rest;
    }

    /// @param record receipts past their window since the last proven fault
    struct State {
        uint32 count;
        uint40 lastNumber;
        uint96 cumulativeAmount;
        uint32 matured;
        uint40 record;
    }

    IProviderRegistry public immutable registry;
    address public immutable disputes;
    uint64 public immutable challengeWindow;
    uint64 public immutable retention;
    uint64 private immutable _genesis;
    uint64 private immutable _epochLength;

    mapping(address provider => State) private _states;
    mapping(address provider => mapping(uint256 slot => Kept)) private _ring;
    mapping(address provider => uint96) private _maturedAmount;
    mapping(address provider => uint40) private _maturedNumber;
    /// @dev The tip of the epoch in the low bits; another epoch's is no tip.
    mapping(uint256 slot => uint256) private _tips;

    constructor(Wiring memory w, uint64 genesis, uint64 epochLength, uint64 challengeWindow_, uint64 retention_) {
        registry = w.registry;
        disputes = w.disputes;
        (_genesis, _epochLength) = (genesis, epochLength);
        challengeWindow = challengeWindow_;
        retention = retention_;
    }

    /// @inheritdoc ICommitmentLog
    function anchor(bytes32 root, uint64 firstNumber, uint64 lastNumber_, uint128 amount, uint64 tokens) external returns (uint64 batchId) {
        address provider = registry.providerOfOperator(msg.sender);
        require(provider != address(0), NotOperator(msg.sender));
        require(root != 0 && lastNumber_ >= firstNumber, EmptyBatch());
        State memory s = _states[provider];
        require(firstNumber == s.lastNumber + 1, NumberGap(s.lastNumber + 1, firstNumber));
        uint64 count = lastNumber_ - firstNumber + 1;
        require(count <= type(uint24).max, TooManyReceipts(count));
        batchId = s.count++;
        s.lastNumber = uint40(lastNumber_);
        s.cumulativeAmount += uint256(amount).toUint96();
        _states[provider] = s;

        Batch memory b = Batch({
            root: root,
            firstNumber: firstNumber,
            lastNumber: lastNumber_,
            anchoredAt: uint64(block.timestamp),
            epoch: (uint64(block.timestamp) - _genesis) / _epochLength,
            amount: amount,
            cumulativeAmount: s.cumulativeAmount,
            tokens: tokens,
            auditRate: _rate(s.record)
        });
        _keep(provider, batchId, b, uint24(count));
        emit BatchAnchored(_next(), provider, batchId, b.epoch, b, _extendTip(provider, batchId, b));
    }

    /// @inheritdoc ICommitmentLog
    function mature(address provider, uint64 batchId) external returns (uint128 cumulativeAmount) {
        cumulativeAmount = maturedAmount(provider, batchId);
        State storage s = _states[provider];
        if (batchId < s.matured) return cumulativeAmount;
        s.matured = uint32(batchId + 1);
        uint40 number = uint40(_ring[provider][batchId % RING].rest >> 216);
        // After a reset the count stands ahead of what has matured.
        if (number > _maturedNumber[provider]) {
            s.record += number - _maturedNumber[provider];
            _maturedNumber[provider] = number;
        }
        _maturedAmount[provider] = uint96(cumulativeAmount);
        emit BatchMatured(_next(), provider, batchId, cumulativeAmount, s.record);
    }

    /// @inheritdoc ICommitmentLog
    function resetRecord(address provider) external {
        require(msg.sender == disputes, NotAllowed(msg.sender));
        State storage s = _states[provider];
        s.record = 0;
        // What is anchored already counts for nothing when it matures.
        _maturedNumber[provider] = s.lastNumber;
        emit RecordReset(_next(), provider);
    }

    /// @inheritdoc ICommitmentLog
    function batch(address provider, uint64 batchId) public view returns (Anchor memory) {
        uint64 count = _states[provider].count;
        require(batchId < count && batchId + RING >= count, NoSuchBatch(provider, batchId));
        Kept memory k = _ring[provider][batchId % RING];
        uint64 last = uint40(k.rest >> 216);
        return Anchor({
            root: k.root,
            firstNumber: last - uint24(k.rest >> 192) + 1,
            lastNumber: last,
            anchoredAt: uint40(k.rest >> 152),
            epoch: uint32(k.rest >> 120),
            cumulativeAmount: uint96(k.rest >> 24),
            auditRate: uint24(k.rest)
        });
    }

    /// @inheritdoc ICommitmentLog
    function batchCount(address provider) external view returns (uint64) {
        return _states[provider].count;
    }

    /// @inheritdoc ICommitmentLog
    function lastNumber(address provider) external view returns (uint64) {
        return _states[provider].lastNumber;
    }

    /// @inheritdoc ICommitmentLog
    function tip(uint64 epoch) public view returns (bytes32) {
        uint256 word = _tips[epoch % TIP_RING];
        uint256 stamp = word & ((1 << EPOCH_BITS) - 1);
        return stamp == epoch ? bytes32(word - stamp) : bytes32(0);
    }

    /// @inheritdoc ICommitmentLog
    function maturedAmount(address provider, uint64 batchId) public view returns (uint128) {
        Anchor memory b = batch(provider, batchId);
        uint64 until = b.anchoredAt + challengeWindow;
        require(block.timestamp > until, WindowOpen(until));
        return b.cumulativeAmount;
    }

    /// @inheritdoc ICommitmentLog
    function inFlight(address provider) external view returns (uint256) {
        return _states[provider].cumulativeAmount - _maturedAmount[provider];
    }

    /// @inheritdoc ICommitmentLog
    function auditRate(address provider) external view returns (uint32) {
        return _rate(_states[provider].record);
    }

    function _keep(address provider, uint64 batchId, Batch memory b, uint24 count) private {
        Kept storage k = _ring[provider][batchId % RING];
        if (batchId >= RING) {
            uint64 until = uint40(k.rest >> 152) + retention;
            require(block.timestamp > until, RingFull(until));
        }
        k.root = b.root;
        k.rest = (uint256(b.lastNumber) << 216) | (uint256(count) << 192) | (uint256(b.anchoredAt) << 152) | (uint256(b.epoch) << 120)
            | (uint256(b.cumulativeAmount) << 24) | b.auditRate;
    }

    function _extendTip(address provider, uint64 batchId, Batch memory b) private returns (bytes32 newTip) {
        bytes32 chained = keccak256(abi.encode(tip(b.epoch), provider, batchId, b.root, b.firstNumber, b.lastNumber, b.amount, b.tokens));
        newTip = (chained >> EPOCH_BITS) << EPOCH_BITS;
        _tips[b.epoch % TIP_RING] = uint256(newTip) | b.epoch;
    }

    function _rate(uint256 record) private pure returns (uint32) {
        uint256 rate = uint256(NEWCOMER_RATE) * RATE_HALVING / (RATE_HALVING + record);
        return rate < FLOOR_RATE ? FLOOR_RATE : uint32(rate);
    }
}
