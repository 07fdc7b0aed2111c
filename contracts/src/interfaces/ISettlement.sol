// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SplitLib} from "../libraries/SplitLib.sol";

/// @title Vouchers to money
/// @notice Redeems cumulative vouchers, holds what they bring until the work behind it is past its window, then splits it.
/// @dev Assumptions: the operator key or anyone else may redeem and release for a provider; money only ever goes to the provider's owner, its
/// delegators, the model's payout address, verifiers and the treasury. Nothing is split before it is final, so a refund returns the whole fee.
interface ISettlement {
    /// @notice The stream is (payer, gateway, provider, model); `cumulative` only grows.
    struct Voucher {
        address payer;
        address gateway;
        address provider;
        bytes32 modelId;
        uint128 cumulative;
    }

    /// @param delta what this redemption took from payer and bond
    /// @param redeemed the stream's total after it
    struct Redemption {
        address gateway;
        uint128 delta;
        uint128 redeemed;
    }

    /// @param amount the gross that was released
    /// @param royaltyTo the model's payout address
    /// @param epoch whose verifiers share `parts.verifiers`
    /// @param delegators their share of `parts.provider`
    /// @param held what is still held for the provider and model
    struct Payout {
        uint96 amount;
        address royaltyTo;
        uint64 epoch;
        uint96 delegators;
        uint96 held;
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

    /// @notice Where the parts that have no other owner go, and their sizes.
    struct Parameters {
        address treasury;
        uint16 verifierBps;
        uint16 treasuryBps;
        uint16 burnBps;
    }

    error LengthMismatch();
    error NotAllowed(address caller);
    error NotVerifier(address account);
    error NothingToRelease();
    error DisputeOpen(address provider);
    error EpochOpen(uint64 epoch);
    error NotOnDuty(address verifier, uint64 epoch);
    error AlreadyClaimed(address verifier, uint64 epoch);
    error Docked(address verifier, uint64 epoch);
    error NotDocked(address verifier, uint64 epoch);
    error BadParameters();

    event VoucherRedeemed(uint64 sequence, address indexed provider, address indexed payer, bytes32 indexed modelId, Redemption redemption);
    event VoucherSkipped(uint64 sequence, address indexed provider, address indexed payer, address gateway, Result result);
    event Released(uint64 sequence, address indexed provider, bytes32 indexed modelId, Payout payout);
    event PayerRefunded(
        uint64 sequence, address indexed provider, address indexed payer, bytes32 indexed modelId, uint256 paid, uint256 stillDue
    );
    event VerifierPaid(uint64 sequence, address indexed verifier, uint64 indexed epoch, uint256 amount);
    event PotRolledOver(uint64 sequence, uint64 indexed epoch, uint64 into, uint256 amount);
    event Swept(uint64 sequence, address indexed treasury, uint256 toTreasury, uint256 burned);
    event ParametersSet(uint64 sequence, Parameters parameters);

    /// @notice Redeems each voucher as far as it can; one that cannot be redeemed is skipped with a result and never fails the rest.
    function redeem(Voucher[] calldata vouchers, bytes[] calldata signatures) external returns (Result[] memory results);

    /// @notice What `redeem` would answer and take for each voucher now, each on its own.
    function preview(Voucher[] calldata vouchers, bytes[] calldata signatures)
        external
        view
        returns (Result[] memory results, uint128[] memory deltas);

    /// @notice Splits and pays what is held for the provider and the models, at most the anchored total up to `batchId`, whose window must have
    /// passed. Returns what the provider's owner got.
    function release(address provider, uint64 batchId, bytes32[] calldata modelIds) external returns (uint256 net);

    /// @notice The same for a verifier that sells checks: nothing of that is anchored or waits for a window. Never for a provider's address.
    function releaseChecks(address verifier, bytes32[] calldata modelIds) external returns (uint256 net);

    /// @notice Returns a fee to its payer from what is held for the provider and model, and the rest from its next redemptions. Disputes only.
    function refund(address provider, address payer, bytes32 modelId, uint128 amount) external;

    /// @notice Pays the caller its equal share of an epoch's pot, if it posted its duties for that epoch and missed no vote in it (IAttendance).
    function claimVerifierPay(uint64 epoch) external returns (uint256 amount);

    /// @notice Moves the share of a verifier that missed a vote to the current epoch's pot. Anybody may.
    function forfeit(uint64 epoch, address verifier) external returns (uint256 amount);

    /// @notice Moves the pot of an epoch for which nobody posted duties to the current epoch.
    function rollOver(uint64 epoch) external;

    /// @notice Sends the treasury its part and burns the burn's. Anybody may.
    function sweep() external;

    /// @notice Sets the shares, within their bounds, for what is released from now on. Governance only.
    function setParameters(Parameters calldata parameters) external;

    function redeemedOf(address payer, address gateway, address provider, bytes32 modelId) external view returns (uint128);

    /// @notice What is redeemed and not yet released, in wei.
    function heldOf(address provider, bytes32 modelId) external view returns (uint128);

    /// @notice What has been released or refunded of a provider's fees: held against its anchored total.
    function releasedOf(address provider) external view returns (uint128);

    function refundDue(address provider, address payer, bytes32 modelId) external view returns (uint128);

    function hashVoucher(Voucher calldata voucher) external view returns (bytes32);
}
