// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SplitLib} from "../libraries/SplitLib.sol";

/// @title Vouchers to money
/// @notice Redeems cumulative vouchers, splits each delta at once and holds the provider's share until the work behind it is past its window.
/// @dev Assumptions: the operator key or anyone else may redeem for a provider; money only ever goes to the provider's owner.
interface ISettlement {
    /// @notice The stream is (payer, gateway, provider, model); `cumulative` only grows.
    struct Voucher {
        address payer;
        address gateway;
        address provider;
        bytes32 modelId;
        uint128 cumulative;
    }

    /// @param delta what this redemption took from escrow and bond
    /// @param redeemed the stream's total after it
    /// @param royaltyTo the model's payout address
    /// @param epoch whose verifiers share `parts.verifiers`
    struct Redemption {
        address gateway;
        uint128 delta;
        uint128 redeemed;
        address royaltyTo;
        uint64 epoch;
        SplitLib.Parts parts;
    }

    enum Result {
        Redeemed,
        Partial,
        BadSignature,
        Stale,
        UnknownModel,
        Unfunded
    }

    /// @param gross what was redeemed and not yet released, by the vouchers
    /// @param net the provider's share of it
    /// @param releasedGross what has been released or refunded, held against the anchored total
    struct Held {
        uint128 gross;
        uint128 net;
        uint128 releasedGross;
    }

    error LengthMismatch();
    error NothingToRelease();
    error DisputeOpen(address provider);
    error EpochOpen(uint64 epoch);
    error NotOnDuty(address verifier, uint64 epoch);
    error AlreadyClaimed(address verifier, uint64 epoch);

    event VoucherRedeemed(uint64 sequence, address indexed provider, address indexed payer, bytes32 indexed modelId, Redemption redemption);
    event VoucherSkipped(uint64 sequence, address indexed provider, address indexed payer, address gateway, Result result);
    event Released(uint64 sequence, address indexed provider, uint256 gross, uint256 net, uint256 heldNet);
    event PayerRefunded(uint64 sequence, address indexed provider, address indexed payer, uint256 paid, uint256 stillDue);
    event VerifierPaid(uint64 sequence, address indexed verifier, uint64 indexed epoch, uint256 amount);
    event PotRolledOver(uint64 sequence, uint64 indexed epoch, uint64 into, uint256 amount);

    /// @notice Redeems each voucher as far as it can; one that cannot be redeemed is skipped with a result and never fails the rest.
    function redeem(Voucher[] calldata vouchers, bytes[] calldata signatures) external returns (Result[] memory results);

    /// @notice What `redeem` would answer and take for each voucher now, each on its own.
    function preview(Voucher[] calldata vouchers, bytes[] calldata signatures)
        external
        view
        returns (Result[] memory results, uint128[] memory deltas);

    /// @notice Pays the provider's owner at most the anchored total up to `batchId`, whose window must have passed.
    function release(address provider, uint64 batchId) external returns (uint256 net);

    /// @notice Refunds a payer from what is held for the provider, and the rest from its next redemptions. Disputes only.
    function refund(address provider, address payer, uint128 amount) external;

    /// @notice Pays the caller its equal share of an epoch's pot, if it posted its duties for that epoch.
    function claimVerifierPay(uint64 epoch) external returns (uint256 amount);

    /// @notice Moves the pot of an epoch for which nobody posted duties to the current epoch.
    function rollOver(uint64 epoch) external;

    function redeemedOf(address payer, address gateway, address provider, bytes32 modelId) external view returns (uint128);

    function heldOf(address provider) external view returns (Held memory);

    function hashVoucher(Voucher calldata voucher) external view returns (bytes32);

    /// @notice What the contract owes, which must equal its token balance.
    function ledger() external view returns (uint256);
}
